/** A server that is allowed to log us in and then tells nonsense: refused by name, and this machine stays as it was. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { machineState } from "./harness/machine_state.ts";
import { SERVER_ADDRESS } from "./harness/network.ts";
import { runToEnd, startClient } from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";

const FIRST_PORT = 51900;

/** Wrong in itself: the message is not believed, and the client tries again, as after any broken connection. */
const ILL_FORMED: readonly (readonly [object, string])[] = [
  [{ mtu: 10 }, '"config.mtu": Invalid value: Expected >=576 but received 10'],
  [{ dns: ["dns.example"] }, 'Expected an address but received "dns.example"'],
  [{ routes: Array(4000).fill("10.0.0.0/24") }, "Expected <=1024 but received 4000"],
  [{ searchDomains: ["a b"] }, 'Expected a domain name but received "a b"'],
];
/** Well-formed, and still nothing that a machine could do: the client ends. */
const IMPOSSIBLE: readonly (readonly [object, string])[] = [
  [{ routes: [`${SERVER_ADDRESS}/32`] }, `Cannot use the server's route "${SERVER_ADDRESS}/32"`],
  [{ routes: ["203.0.113.0/24"] }, 'Cannot use the server\'s route "203.0.113.0/24"'],
  [{ dns: ["127.0.0.1"] }, 'Cannot use the server\'s DNS server "127.0.0.1"'],
  [{ addresses: ["203.0.113.9/24"] }, 'Cannot use "203.0.113.0/24" as the tunnel\'s network'],
];

networkTest("nonsense from the server is refused by name, the machine untouched", {}, async (network) => {
  const client = network.client(0);
  const lies = [...ILL_FORMED, ...IMPOSSIBLE].map(([lie]) => JSON.stringify(lie));
  const liar = network.server.startHelper("lying_server", `${FIRST_PORT}`, ...lies);
  await until("the liar", timeoutSeconds(10), async () =>
    liar.output.includes("listening") ? true : undefined,
  );
  const before = await machineState(client);
  const tries = ILL_FORMED.map(async ([, reason], index) => {
    const tun = `omail${index}`;
    const args = ["--server", `${SERVER_ADDRESS}:${FIRST_PORT + index}`];
    const started = await startClient(network, 0, { tun, args, fullTunnel: true, waitUntilReady: false });
    // In the log it stands in quotes.
    const logged = JSON.stringify(reason).slice(1, -1);
    await until(`"${reason}"`, timeoutSeconds(10), async () =>
      started.program.output.includes(logged) ? true : undefined,
    );
    expect(withoutLinks(await machineState(client))).toBe(withoutLinks(before));
    await started.stop();
  });
  await Promise.all(tries);
  for (const [index, [, message]] of IMPOSSIBLE.entries()) {
    const server = `${SERVER_ADDRESS}:${FIRST_PORT + ILL_FORMED.length + index}`;
    const { status, stderr } = await runToEnd(network, client, "client", { args: ["--server", server] });
    expect({ status: status === 1 || status === 2, stderr }).toEqual({
      status: true,
      stderr: expect.stringContaining(message),
    });
  }
  expect(await machineState(client)).toBe(before);
});

/** The state without our own interfaces, which exist while a client tries. */
function withoutLinks(state: string): string {
  const lines = state
    .split("\n")
    .filter((line) => !/^(\/proc\/sys.*\/)?ipv[46]\/conf\/omail|omail\d/.test(line));
  return lines.join("\n");
}
