/** Starts the two executables with one of their engines. */

import { existsSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import {
  INNER_NETWORK,
  INNER_SERVER,
  innerOf,
  MOST_CLIENTS,
  outerOf,
  type Side,
  type Testbed,
} from "./testbed.ts";
import type { Peer, Tunnel } from "./tunnel.ts";

/** What seals records: `--engine` of both executables. */
export type Engine = "web" | "sync";

/** What carries records. */
export type Transport = "udp" | "tcp";

/** Where the server listens: TCP and UDP, on every veth pair. */
export const OMAIL_PORT = 51820;
const MTU_BYTES = 1420;
/** Clients that start at the same time: each stretches its password. */
const STARTED_TOGETHER = 4;

/** Above what `calm_delay.ts` and `calm_share.ts` make a second. */
const LOGINS_PER_ADDRESS = 200;

/** @param root the directory of the two executables */
export function omail(name: string, root: string, engine: Engine, transport: Transport): Peer {
  const server = join(root, "omail-server");
  const client = join(root, "omail-client");
  return {
    name,
    version: [server, "--version"],
    obstacle: obstacleOf([server, client], engine),
    mostClients: MOST_CLIENTS,
    start: (bed) => startOmail(bed, server, client, engine, transport),
  };
}

function obstacleOf(executables: readonly string[], engine: Engine): string | null {
  const missing = executables.find((file) => !existsSync(file));
  if (missing !== undefined) return `"${missing}" not found: run \`bun run build\``;
  const refusing = executables.find((file) => !takesEngine(file, engine));
  return refusing === undefined ? null : `"${refusing}" does not take --engine ${engine}`;
}

/**
 * Whether an executable knows an engine. It is started with that option alone: too little to run, so that it ends with a
 * complaint, about the engine or about the rest.
 */
function takesEngine(file: string, engine: Engine): boolean {
  const { stderr } = Bun.spawnSync([file, "--engine", engine], {
    env: { PATH: process.env["PATH"] ?? "", HOME: "/nonexistent" },
    stdin: "ignore",
    timeout: 10_000,
  });
  return !stderr.toString().includes("--engine");
}

async function startOmail(
  bed: Testbed,
  server: string,
  client: string,
  engine: Engine,
  transport: Transport,
): Promise<Tunnel> {
  // new in each round: the client pins the key of the server that it met first
  const state = mkdtempSync(join(bed.directory, "state-"));
  const password = crypto.randomUUID();
  const env = { OMAIL_PASSWORD: password };
  const stateDir = (side: Side) => join(state, side);
  const common = (side: Side) => {
    const tun = ["--tun", bed.link("om"), "--mtu", String(MTU_BYTES)];
    return [...tun, "--state-dir", stateDir(side), "--engine", engine];
  };
  const listen = ["--address", `:${OMAIL_PORT}`, "--tun-ip", `${INNER_SERVER}/24`];
  // the log-ins of `bench:calm` all come from one address
  listen.push("--handshake-rate", String(LOGINS_PER_ADDRESS));
  const programs = [bed.start("server", [server, ...listen, ...common("server")], env)];
  await bed.until("omail-server listens", () => bed.isListening(OMAIL_PORT));
  const startClient = async (side: Side): Promise<void> => {
    const where = ["--server", `${outerOf(side).server}:${OMAIL_PORT}`, "--tun-ip", innerOf(side)];
    const routes = [
      "--split-tunnel",
      INNER_NETWORK,
      "--no-dns",
      ...(transport === "tcp" ? ["--transport", "tcp"] : []),
    ];
    programs.push(bed.start(side, [client, ...where, ...routes, ...common(side)], env));
    await bed.until(`omail-${side} is connected`, () => hasRoute(bed, side));
  };
  for (let at = 0; at < bed.clients.length; at += STARTED_TOGETHER) {
    await Promise.all(bed.clients.slice(at, at + STARTED_TOGETHER).map(startClient));
  }
  const stateDirs = { server: stateDir("server"), client: stateDir("client") };
  return { target: INNER_SERVER, programs, stateDirs, password };
}

async function hasRoute(bed: Testbed, side: Side): Promise<boolean> {
  const { stdout } = await bed.run(side, ["ip", "route", "get", INNER_SERVER]);
  return stdout.includes(`dev ${bed.link("om")}`);
}
