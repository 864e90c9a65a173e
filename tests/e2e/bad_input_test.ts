/** What can be wrong at the start: each ends with a clear message and its exit status, and changes nothing. */

import { expect } from "bun:test";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import type { CommandResult } from "./harness/command.ts";
import { machineState } from "./harness/machine_state.ts";
import { SERVER_ADDRESS } from "./harness/network.ts";
import {
  INNER_SERVER,
  type Role,
  runToEnd,
  SPLIT_TUNNEL,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { ping } from "./harness/traffic.ts";

const CLIENT_ARGS = ["--server", SERVER_ADDRESS, "--split-tunnel", SPLIT_TUNNEL];
const SERVER_ARGS = ["--tun-ip", "10.9.0.1/24", "--nat"];
const STARTS: readonly (readonly [Role, readonly string[]])[] = [
  ["server", SERVER_ARGS],
  ["client", CLIENT_ARGS],
];

/** The whole result, so that a failure shows what was said; no stack trace, no source lines. */
function expectRefusal(result: CommandResult, status: number, says: RegExp): void {
  expect({ status: result.status, stderr: result.stderr }).toEqual({
    status,
    stderr: expect.stringMatching(says),
  });
  expect(result.stderr).not.toMatch(/^\s+at .*:\d+:\d+/m);
}

networkTest(
  "bad input: an exhausted address pool refuses the second client",
  { clients: 2 },
  async (network) => {
    const server = await startServer(network, { args: ["--tun-ip", "10.8.0.1/30", "--tun-ip6", "none"] });
    await startClient(network, 0, { args: ["--split-tunnel", "10.8.0.0/30"] });
    const refused = await runToEnd(network, network.client(1), "client", { args: CLIENT_ARGS });
    expectRefusal(refused, 4, /address|pool/i);
    expect((await ping(network.client(0), INNER_SERVER, { count: 5 })).received).toBe(5);
    expect((await server.status()).sessions.length).toBe(1);
  },
);

networkTest(
  "bad input: a port in use ends the second server and leaves the first alone",
  {},
  async (network) => {
    await startServer(network);
    const before = await machineState(network.server);
    const second = await runToEnd(network, network.server, "server", {
      args: [...SERVER_ARGS, "--tun", "omail1"],
    });
    expectRefusal(second, 1, /51820/);
    expect(await machineState(network.server)).toBe(before);
    await startClient(network);
    expect((await ping(network.client(0), INNER_SERVER, { count: 5 })).received).toBe(5);
  },
);

networkTest("bad input: an interface name that is taken", {}, async (network) => {
  for (const [role, args] of STARTS) {
    const machine = role === "server" ? network.server : network.client(0);
    await machine.run(["ip", "link", "add", "taken0", "type", "veth", "peer", "name", "taken1"]);
    const before = await machineState(machine);
    expectRefusal(
      await runToEnd(network, machine, role, { args: [...args, "--tun", "taken0"] }),
      2,
      /taken0/,
    );
    expect(await machineState(machine)).toBe(before);
  }
});

networkTest("bad input: no /dev/net/tun", {}, async (network) => {
  const wrapper = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh"];
  for (const [role, args] of STARTS) {
    expectRefusal(await runToEnd(network, network.client(0), role, { args, wrapper }), 5, /\/dev\/net\/tun/);
  }
});

networkTest("bad input: no root", {}, async (network) => {
  const before = await machineState(network.client(0));
  const wrapper = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
  for (const [role, args] of STARTS) {
    expectRefusal(
      await runToEnd(network, network.client(0), role, { args, wrapper }),
      5,
      /root|CAP_NET_ADMIN|privilege/i,
    );
  }
  expect(await machineState(network.client(0))).toBe(before);
});

networkTest("bad input: a full disk for the state directory", {}, async (network) => {
  const before = await machineState(network.client(0));
  const disk = join(network.directory, "disk");
  const script = `mkdir -p ${disk}; mount -t tmpfs -o size=64k,nr_inodes=64 none ${disk} && mkdir ${disk}/state; cat /dev/zero >${disk}/fill 2>/dev/null; exec "$@"`;
  const wrapper = ["unshare", "-m", "sh", "-c", script, "sh"];
  for (const [role, args] of STARTS) {
    const full = await runToEnd(network, network.client(0), role, {
      args: [...args, "--state-dir", `${disk}/state`],
      wrapper,
    });
    expectRefusal(full, 1, new RegExp(`${disk}/state`));
  }
  expect(await machineState(network.client(0))).toBe(before);
});
