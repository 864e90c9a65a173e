/**
 * A server's NAT on Linux as one nftables table of our own (nft(8)), loaded and removed whole.
 *
 * Masquerades what comes out of the tunnel and leaves by another interface, IPv4 and IPv6, and lowers the TCP MSS of
 * connections through the tunnel to what the path carries, for clients behind broken path MTU discovery.
 */

import { messageOf } from "./caught.ts";
import { commandError, expectCommand, type RunCommand } from "./command.ts";
import type { HostChange } from "./host_change.ts";
import type { Log } from "./log.ts";

/** A chain as `nft -j list chains` shows it; base chains have a hook and a policy. */
export interface ForeignChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
}

/** The name of our table for an interface: letters, digits and `_`; a name that had others gets a stable suffix. */
export function natTableName(tun: string): string {
  return tableName("omail", tun);
}

/** `PREFIX_TUN` in the letters of a table's name. */
export function tableName(prefix: string, tun: string): string {
  const plain = tun.replaceAll(/[^A-Za-z0-9_]/g, "_");
  return plain === tun ? `${prefix}_${tun}` : `${prefix}_${plain}_${Bun.hash.crc32(tun).toString(16)}`;
}

/** The script for `nft -f`: replaces our table atomically, whether it was there or not. */
export function natScript(tun: string): string {
  const table = `inet ${natTableName(tun)}`;
  const clamp = "tcp flags syn / syn,rst tcp option maxseg size set rt mtu";
  return `table ${table}
delete table ${table}
table ${table} {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    iifname "${tun}" oifname != "${tun}" masquerade
  }
  chain forward {
    type filter hook forward priority mangle; policy accept;
    iifname "${tun}" ${clamp}
    oifname "${tun}" ${clamp}
  }
}
`;
}

/** Plans a server's NAT. */
export function planNat(tun: string, run: RunCommand, log: Log): HostChange {
  return {
    name: "NAT",
    key: natScript(tun),
    undo: [{ kind: "nft-table", table: natTableName(tun) }],
    onFailure: "throw",
    async apply() {
      await loadTable(tun, run);
      await warnOfDroppingChains(tun, run, log);
    },
  };
}

async function loadTable(tun: string, run: RunCommand): Promise<void> {
  await loadRuleset("Cannot set up NAT with nft", natScript(tun), "nft_masq", run);
}

/**
 * Loads a ruleset, all of it or nothing.
 *
 * @param purpose as of {@link expectCommand}
 * @param module the kernel module that it needs besides nf_tables, for the message
 */
export async function loadRuleset(
  purpose: string,
  script: string,
  module: string,
  run: RunCommand,
): Promise<void> {
  const { status, stderr } = await run(["nft", "-f", "-"], script);
  if (status === 0) return;
  const detail = /not supported|no such file|cache initialization/i.test(stderr)
    ? `${stderr}\nexpected a kernel with nf_tables and ${module} (Debian: apt-get install linux-image-amd64 nftables)`
    : stderr;
  throw commandError(purpose, "nft", status, detail);
}

/** An accept in our table cannot overrule a drop in another: say which chain is in the way. */
async function warnOfDroppingChains(tun: string, run: RunCommand, log: Log): Promise<void> {
  const { status, stdout } = await run(["nft", "-j", "list", "chains"]);
  if (status !== 0) return;
  for (const { family, table, name } of droppingChains(stdout, "forward")) {
    log.warn(
      `Another firewall drops forwarded packets by default (${family} ${table} ${name}); if clients reach nothing: ` +
        `nft insert rule ${family} ${table} ${name} iifname "${tun}" accept, and the same with oifname`,
    );
  }
}

/** Reads `nft -j list chains`: chains at `hook` with policy drop. */
export function droppingChains(json: string, hook: "forward" | "input"): ForeignChain[] {
  const { nftables = [] } = JSON.parse(json) as { nftables?: readonly { chain?: Record<string, unknown> }[] };
  return nftables.flatMap(({ chain }) =>
    chain !== undefined && chain["hook"] === hook && chain["policy"] === "drop"
      ? [{ family: String(chain["family"]), table: String(chain["table"]), name: String(chain["name"]) }]
      : [],
  );
}

/** Deletes a table of ours; it may be gone already. */
export async function undoNftTable(table: string, run: RunCommand, log: Log): Promise<void> {
  try {
    // Adding first makes the deletion succeed either way, so that any failure is a real one.
    const script = `table inet ${table}\ndelete table inet ${table}\n`;
    await expectCommand(run, `Cannot remove nft table "${table}"`, ["nft", "-f", "-"], script);
  } catch (error) {
    log.warn(messageOf(error));
  }
}
