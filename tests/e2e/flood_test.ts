/**
 * Calm under attack: while strangers flood TCP, TLS or UDP, a good client connects soon, and the server stays small.
 *
 * OMAIL_FLOOD_BUSY=2 keeps so many processors busy with something else meanwhile.
 */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import type { BackgroundProgram } from "./harness/command.ts";
import { clientAddress, type Machine, type Network, SERVER_ADDRESS } from "./harness/network.ts";
import {
  INNER_SERVER,
  type OmailProgram,
  type ServerStatus,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { ping } from "./harness/traffic.ts";
import type { Tally } from "./programs/flood.ts";

/** The flood is ended when what it is there for was seen, or after this time. */
const FLOOD_SECONDS = 40;
/** For at least this long it goes on before the good client comes, and again after it has come. */
const BEFORE_MS = 1_500;
const AFTER_MS = 2_000;
/** The aim, for a machine where connecting without a flood takes next to nothing. */
const CONNECT_LIMIT_MS = 2_000;
/** Attacker, server and client share two cores, and others may be at work on them: a connect takes longer for that. */
const SLOWDOWN = 5;
const MAX_GROWTH_BYTES = 80e6;
/** The bound of the server; some more seem open to the attacker while their reset is under way. */
const MAX_PENDING = 256;
const BUSY = Number(process.env["OMAIL_FLOOD_BUSY"] ?? 0);
/** Clock ticks a second in /proc/PID/stat (sysconf(_SC_CLK_TCK), 100 on every Linux of today). */
const TICKS = 100;

async function cpuSeconds(program: BackgroundProgram): Promise<number> {
  const stat = await Bun.file(`/proc/${program.pid}/stat`).text();
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

/** More addresses for the attacker; all lie in the network that the router sends back to it. */
async function addAddresses(attacker: Machine, count: number): Promise<string[]> {
  const prefix = clientAddress(1).replace(/\d+$/, "");
  const added = Array.from({ length: count }, (_, i) => `${prefix}${10 + i}`);
  const batch = added.map((address) => `address add ${address}/32 dev wan`).join("\n");
  if (count > 0) await attacker.run(["ip", "-batch", "-"], { input: `${batch}\n` });
  return [clientAddress(1), ...added];
}

/** How long a client takes that nobody disturbs. */
async function connectTime(network: Network): Promise<number> {
  const startMs = performance.now();
  const client = await startClient(network);
  const tookMs = performance.now() - startMs;
  await client.stop();
  return tookMs;
}

interface Outcome {
  readonly tally: Tally;
  readonly server: OmailProgram<ServerStatus>;
}

function floodTest(
  name: string,
  kind: "tcp" | "tls" | "tls-hold" | "udp",
  addresses: number,
  perSecond: number,
  judge: (outcome: Outcome) => Promise<void> | void,
): void {
  networkTest(`flood: ${name}`, { clients: 2, limitSeconds: 70 }, async (network) => {
    const attacker = network.client(1);
    const from = await addAddresses(attacker, addresses - 1);
    await attacker.nft(
      "table inet seen { chain in { type filter hook input priority 0; meta l4proto udp counter; }\n}",
    );
    const server = await startServer(network, { args: ["--log-level", "info"] });
    const spin = "for (;;) ;";
    for (let i = 0; i < BUSY; i++) attacker.start("busy", [process.execPath, "-e", spin]);
    const quietMs = await connectTime(network);
    const memoryBefore = await server.residentBytes();
    const program = attacker.startHelper(
      "flood",
      ...[kind, SERVER_ADDRESS, "51820", `${FLOOD_SECONDS}`, `${perSecond}`, from.join(",")],
    );
    await until("the flood", timeoutSeconds(10), async () =>
      program.output.includes("flooding") ? true : undefined,
    );
    await Bun.sleep(BEFORE_MS);
    const [cpuBefore, startMs] = [await cpuSeconds(server.program), performance.now()];
    const client = await startClient(network, 0, { args: ["--log-level", "info"] });
    const connectMs = performance.now() - startMs;
    const pings = await ping(network.client(0), INNER_SERVER, { count: 20 });
    const cpu = ((await cpuSeconds(server.program)) - cpuBefore) / ((performance.now() - startMs) / 1000);
    await Bun.sleep(AFTER_MS);
    expect(program.running).toBe(true);
    expect((await client.status()).state).toBe("connected");
    await program.stop();
    const tally = JSON.parse(program.output.trim().split("\n").at(-1)!) as Tally;
    const growth = (await server.residentBytes()) - memoryBefore;
    const { refusals } = await server.status();
    console.log(
      `${name}: ${JSON.stringify(tally)}; a good client was connected after ${Math.round(connectMs)} ms ` +
        `(without a flood: ${Math.round(quietMs)} ms); ` +
        `server: ${cpu.toFixed(2)} cores, ${(growth / 1e6).toFixed(1)} MB more, ${JSON.stringify(refusals)}`,
    );
    expect(connectMs).toBeLessThan(CONNECT_LIMIT_MS + SLOWDOWN * quietMs);
    expect(pings.received).toBeGreaterThanOrEqual(18);
    expect(growth).toBeLessThan(MAX_GROWTH_BYTES);
    await judge({ tally, server });
    const { stdout } = await attacker.run(["nft", "list", "table", "inet", "seen"]);
    expect(stdout).toContain("packets 0 bytes 0");
  });
}

/** An attacker who wants to hold 10,000 connections, and opens anew what it loses, holds no more than the bound. */
function judgeHeld({ tally }: Outcome): void {
  expect(tally.opened).toBeGreaterThan(MAX_PENDING);
  expect(tally.held).toBeLessThanOrEqual(MAX_PENDING);
}

floodTest("10,000 half-open connections from one address", "tcp", 1, 4_000, judgeHeld);
floodTest("10,000 half-open connections from 128 addresses", "tcp", 128, 4_000, judgeHeld);
floodTest("10,000 TLS connections that say nothing, from one address", "tls-hold", 1, 1_000, ({ tally }) => {
  expect(tally.held).toBeLessThanOrEqual(MAX_PENDING);
});
floodTest("10,000 TLS connections that say nothing, from 128 addresses", "tls-hold", 128, 1_000, judgeHeld);
floodTest("TLS handshakes and broken messages from 200 addresses", "tls", 200, 1_000, async ({ server }) => {
  expect((await server.status()).refusals?.["rate-limited"]).toBeGreaterThan(0);
});
floodTest("100,000 bad datagrams a second", "udp", 4, 100_000, ({ tally }) => {
  expect(tally.sent).toBeGreaterThan(100_000);
  expect(tally.answered).toBe(0);
});
