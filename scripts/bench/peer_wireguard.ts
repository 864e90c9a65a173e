/** Starts wireguard-go at both ends: one interface at the server with a peer for each client. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { INNER_SERVER, innerOf, MOST_CLIENTS, outerOf, type Side, type Testbed } from "./testbed.ts";
import type { Peer, Tunnel } from "./tunnel.ts";

const PORT = 51820;
const MTU_BYTES = 1420;

/** @param file of the program, or its name on PATH */
export function wireguard(name: string, file: string): Peer {
  const program = Bun.which(file);
  const missing = program === null ? file : Bun.which("wg") === null ? "wg" : null;
  return {
    name,
    version: [program ?? file, "--version"],
    obstacle: missing === null ? null : `"${missing}" not found: install it, or give --wireguard-go FILE`,
    mostClients: MOST_CLIENTS,
    start: (bed) => startWireguard(bed, program ?? file),
  };
}

async function startWireguard(bed: Testbed, program: string): Promise<Tunnel> {
  // the names differ, because the programs' control sockets are told apart by them
  const linkOf = (side: Side) => (side === "server" ? bed.link("wgs") : bed.link("wgc", side));
  const sides: readonly Side[] = ["server", ...bed.clients];
  const keys = new Map<Side, KeyPair>();
  for (const side of sides) keys.set(side, await makeKeys(bed, side));
  const programs = sides.map((side) => bed.start(side, [program, "-f", linkOf(side)]));
  for (const side of sides) {
    const link = linkOf(side);
    await bed.until(`${program} makes ${link}`, () => exists(bed, side, link));
    const others = side === "server" ? bed.clients : (["server"] as const);
    const own = ["listen-port", String(PORT), "private-key", keys.get(side)!.file];
    const peers = others.flatMap((other) => {
      const host = side === "server" ? outerOf(other).client : outerOf(side).server;
      const key = ["peer", keys.get(other)!.publicKey];
      return [...key, "endpoint", `${host}:${PORT}`, "allowed-ips", `${innerOf(other)}/32`];
    });
    const inside = ["ip", "netns", "exec", bed.namespace(side)];
    await bed.command([...inside, "wg", "set", link, ...own, ...peers]);
    await bed.ip(side, "addr", "add", `${innerOf(side)}/24`, "dev", link);
    await bed.ip(side, "link", "set", link, "up", "mtu", String(MTU_BYTES));
  }
  return { target: INNER_SERVER, programs };
}

async function exists(bed: Testbed, side: Side, link: string): Promise<boolean> {
  return (await bed.run(side, ["wg", "show", link])).exitCode === 0;
}

interface KeyPair {
  readonly file: string;
  readonly publicKey: string;
}

/** A new pair; the private key is only in the file, since `wg` takes it from there. */
async function makeKeys(bed: Testbed, side: Side): Promise<KeyPair> {
  const file = join(bed.directory, `${side}.key`);
  const key = await bed.command(["wg", "genkey"]);
  writeFileSync(file, key, { mode: 0o600 });
  return { file, publicKey: await bed.command(["wg", "pubkey"], key) };
}
