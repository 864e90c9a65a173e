/** Least privilege: what a running program has given away, that it works without it, and that it cleans up without it. */

import { expect } from "bun:test";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { networkTest } from "./harness.ts";
import { machineState } from "./harness/machine_state.ts";
import { INNER_SERVER, type OmailProgram, startClient, startServer } from "./harness/omail.ts";
import { ping } from "./harness/traffic.ts";

const CAP_NET_ADMIN = 1n << 12n;
const CAP_CHOWN = 1n << 0n;
const CAP_DAC_OVERRIDE = 1n << 1n;

interface Thread {
  readonly name: string;
  readonly effective: bigint;
  readonly bounding: bigint;
  readonly noNewPrivileges: boolean;
}

function threadsOf({ program }: OmailProgram<unknown>): readonly Thread[] {
  return readdirSync(`/proc/${program.pid}/task`).map((id) => {
    const status = readFileSync(`/proc/${program.pid}/task/${id}/status`, "utf8");
    const field = (name: string) => new RegExp(`^${name}:\\s+(.*)$`, "m").exec(status)?.[1] ?? "";
    return {
      name: `${id} ${field("Name")}`,
      effective: BigInt(`0x${field("CapEff")}`),
      bounding: BigInt(`0x${field("CapBnd")}`),
      noNewPrivileges: field("NoNewPrivs") === "1",
    };
  });
}

/** The thread that starts all commands, and how many of the others have as little. */
function expectDropped(program: OmailProgram<unknown>, kept: bigint): void {
  const threads = threadsOf(program);
  const dropped = threads.filter(
    ({ effective, bounding }) => (effective & ~kept) === 0n && (bounding & ~kept) === 0n,
  );
  const main = threads.find(({ name }) => name.startsWith(`${program.program.pid} `))!;
  expect(main).toMatchObject({ effective: kept, bounding: kept, noNewPrivileges: true });
  const rest = threads.filter((thread) => !dropped.includes(thread)).map(({ name }) => name.split(" ")[1]);
  console.log(
    `${program.role}: ${dropped.length} of ${threads.length} threads have given all away; not: ${rest.join(", ")}`,
  );
  expect(dropped.length).toBeGreaterThan(1);
}

networkTest(
  "least privilege: both programs work, and clean up, with hardly a capability",
  {},
  async (network) => {
    const machines = [network.server, network.client(0)];
    const before = await Promise.all(machines.map(machineState));
    const server = await startServer(network, { args: ["--nat"] });
    const client = await startClient(network, 0, { fullTunnel: true });
    expectDropped(server, CAP_NET_ADMIN);
    expectDropped(client, CAP_NET_ADMIN | CAP_CHOWN | CAP_DAC_OVERRIDE);
    expect((await ping(network.client(0), INNER_SERVER, { count: 5 })).received).toBe(5);
    for (const { stateDir } of [server, client]) {
      expect(statSync(stateDir).mode & 0o777).toBe(0o700);
      const socket = readdirSync(stateDir).find((name) => name.endsWith(".sock"))!;
      expect(statSync(`${stateDir}/${socket}`).mode & 0o777).toBe(0o660);
    }
    await client.stop();
    await server.stop();
    expect(await Promise.all(machines.map(machineState))).toEqual(before);
  },
);
