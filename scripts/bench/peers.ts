/** The tunnels that are compared, and how each is started between the two ends of a test bed. */

import { writeFileSync, existsSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { INNER, OUTER, type Side, type Started, type Testbed } from "./testbed.ts";

/** The peer that the others are measured against. */
export const BASE = "wireguard-go";

const PORT = 51820;
const MTU_BYTES = 1420;
const SIDES = ["client", "server"] as const;

/** A started tunnel. */
export interface Tunnel {
  /** Address of the server through the tunnel. */
  readonly target: string;
  /** The tunnel's own programs. */
  readonly programs: readonly Started[];
}

/** One tunnel, or none. */
export interface Peer {
  readonly name: string;
  /** Answers with its version, on the first line; null when there is nothing to ask. */
  readonly version: readonly string[] | null;
  /** What is missing here and how to get it; null when it can run. */
  readonly obstacle: string | null;
  start(bed: Testbed): Promise<Tunnel>;
}

/** All peers. @param root the directory of the two executables @param wireguardGo file, or a name on PATH */
export function allPeers(root: string, wireguardGo: string): readonly Peer[] {
  return [veth(), wireguard(wireguardGo), omail(root)];
}

/** No tunnel: what the machine itself can do. */
function veth(): Peer {
  const tunnel: Tunnel = { target: OUTER.server, programs: [] };
  return { name: "veth", version: null, obstacle: null, start: () => Promise.resolve(tunnel) };
}

function wireguard(file: string): Peer {
  const program = Bun.which(file);
  const missing = program === null ? file : Bun.which("wg") === null ? "wg" : null;
  return {
    name: BASE,
    version: [program ?? file, "--version"],
    obstacle: missing === null ? null : `"${missing}" not found: install it, or give --wireguard-go FILE`,
    start: (bed) => startWireguard(bed, program ?? file),
  };
}

async function startWireguard(bed: Testbed, program: string): Promise<Tunnel> {
  const links = { client: bed.link("wgc"), server: bed.link("wgs") };
  const keys = { client: await wireguardKeys(bed, "client"), server: await wireguardKeys(bed, "server") };
  const programs = SIDES.map((side) => bed.start(side, [program, "-f", links[side]]));
  for (const side of SIDES) {
    const other = side === "client" ? "server" : "client";
    const link = links[side];
    const isReady = async () => (await bed.run(side, ["wg", "show", link])).exitCode === 0;
    await bed.until(`${BASE} makes ${link}`, isReady);
    const inside = ["ip", "netns", "exec", bed.namespace(side)];
    const own = ["listen-port", String(PORT), "private-key", keys[side].file];
    const peer = ["peer", keys[other].publicKey, "endpoint", `${OUTER[other]}:${PORT}`];
    const allowed = ["allowed-ips", `${INNER[other]}/32`];
    await bed.command([...inside, "wg", "set", link, ...own, ...peer, ...allowed]);
    await bed.ip(side, "addr", "add", `${INNER[side]}/24`, "dev", link);
    await bed.ip(side, "link", "set", link, "up", "mtu", String(MTU_BYTES));
  }
  return { target: INNER.server, programs };
}

/** A new pair; the private key is only in the file, since `wg` takes it from there. */
async function wireguardKeys(bed: Testbed, side: Side): Promise<{ file: string; publicKey: string }> {
  const file = join(bed.directory, `${side}.key`);
  const key = await bed.command(["wg", "genkey"]);
  writeFileSync(file, key, { mode: 0o600 });
  return { file, publicKey: await bed.command(["wg", "pubkey"], key) };
}

function omail(root: string): Peer {
  const server = join(root, "omail-server");
  const client = join(root, "omail-client");
  const missing = [server, client].find((file) => !existsSync(file));
  return {
    name: "omail",
    version: [server, "--version"],
    obstacle: missing === undefined ? null : `"${missing}" not found: run \`bun run build\``,
    start: (bed) => startOmail(bed, server, client),
  };
}

async function startOmail(bed: Testbed, server: string, client: string): Promise<Tunnel> {
  // new in each round: the client pins the key of the server that it met first
  const state = mkdtempSync(join(bed.directory, "state-"));
  const env = { OMAIL_PASSWORD: crypto.randomUUID() };
  const endpoint = `${OUTER.server}:${PORT}`;
  const common = (side: Side): string[] => {
    const tun = bed.link(side === "client" ? "omc" : "oms");
    return ["--tun", tun, "--mtu", String(MTU_BYTES), "--state-dir", join(state, side)];
  };
  const listen = ["--address", endpoint, "--tun-ip", `${INNER.server}/24`];
  const serverProgram = bed.start("server", [server, ...listen, ...common("server")], env);
  const isListening = async () =>
    (await bed.run("server", ["ss", "-Hltn", `sport = :${PORT}`])).stdout.trim() !== "";
  await bed.until("omail-server listens", isListening);
  const connect = [
    "--server",
    endpoint,
    "--tun-ip",
    INNER.client,
    "--split-tunnel",
    "10.77.0.0/24",
    "--no-dns",
  ];
  const clientProgram = bed.start("client", [client, ...connect, ...common("client")], env);
  return { target: INNER.server, programs: [clientProgram, serverProgram] };
}
