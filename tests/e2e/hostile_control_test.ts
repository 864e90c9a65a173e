/** Strangers at the control port, wrong passwords and wrong servers: a clear end, and the client at work unharmed. */

import { expect } from "bun:test";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { type CommandResult, command } from "./harness/command.ts";
import { type Network, SERVER_ADDRESS } from "./harness/network.ts";
import { INNER_SERVER, runToEnd, SPLIT_TUNNEL, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds } from "./harness/timing.ts";
import { ping } from "./harness/traffic.ts";
import type { Ending } from "./programs/hostile_control.ts";

/** HANDSHAKE_TIMEOUT_MS of the server is 10 s; slow drips must not extend it. */
const CLOSED_WITHIN_MS = 12_000;
/** An unknown user and a wrong password must not be told apart by time: medians may differ by this factor. */
const SAME_TIME_FACTOR = 1.5;

networkTest(
  "hostile control: every attack on the port ends, the client at work loses nothing",
  { clients: 2, limitSeconds: 60 },
  async (network) => {
    const server = await startServer(network, { args: ["--handshake-rate", "1000"] });
    await startClient(network);
    const answers = ping(network.client(0), INNER_SERVER, { count: 500, intervalSeconds: 0.02 });
    const limitMs = CLOSED_WITHIN_MS + 3_000;
    const args = [SERVER_ADDRESS, "51820", `${limitMs}`];
    const endings = (await network
      .client(1)
      .runHelper("hostile_control", args, limitMs + timeoutSeconds(10))) as Ending[];
    expect(endings.length).toBeGreaterThanOrEqual(20);
    const open = endings.filter(({ closed, afterMs }) => !closed || afterMs > CLOSED_WITHIN_MS);
    expect(open).toEqual([]);
    expect((await answers).received).toBe(500);
    expect(server.program.running).toBe(true);
    // The door still opens for those who knock properly.
    await startClient(network, 1);
  },
);

networkTest(
  "hostile control: a wrong password and an unknown user get the same answer in the same time",
  { limitSeconds: 60 },
  async (network) => {
    await startServer(network);
    const attempt = (user: string, password: string) =>
      runToEnd(network, network.client(0), "client", {
        args: ["--server", SERVER_ADDRESS, "--split-tunnel", SPLIT_TUNNEL, "--user", user],
        password,
      });
    const wrong: CommandResult[] = [];
    const unknown: CommandResult[] = [];
    for (let turn = 0; turn < 5; turn++) {
      wrong.push(await attempt("default", "not the password"));
      unknown.push(await attempt("nobody", "not the password"));
    }
    for (const { status, stderr } of [...wrong, ...unknown]) {
      expect({ status, stderr }).toMatchObject({ status: 4 });
      expect(stderr).not.toContain("not the password");
    }
    expect(withoutName(unknown[0]!.stderr)).toBe(withoutName(wrong[0]!.stderr));
    const ratio = medianMs(unknown) / medianMs(wrong);
    console.log(
      `wrong password ${Math.round(medianMs(wrong))} ms, unknown user ${Math.round(medianMs(unknown))} ms`,
    );
    expect(ratio).toBeLessThan(SAME_TIME_FACTOR);
    expect(ratio).toBeGreaterThan(1 / SAME_TIME_FACTOR);
  },
);

/** What a log says, without its time stamps and user names. */
function withoutName(log: string): string {
  return log.replaceAll(/default|nobody/g, "USER").replaceAll(/^\S*\d\S*\s/gm, "");
}

function medianMs(results: readonly CommandResult[]): number {
  return results.map(({ elapsedMs }) => elapsedMs).toSorted((a, b) => a - b)[results.length >> 1]!;
}

/** A self-signed certificate for the server's address and its key, made by openssl. */
async function makeCertificate(network: Network, name: string): Promise<{ cert: string; key: string }> {
  const cert = join(network.directory, `${name}.crt`);
  const key = join(network.directory, `${name}.key`);
  const request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(
    " ",
  );
  const subject = ["-subj", `/CN=${name}`, "-addext", `subjectAltName=IP:${SERVER_ADDRESS}`];
  await command([...request, ...subject, "-keyout", key, "-out", cert]);
  return { cert, key };
}

networkTest(
  "hostile control: with --ca a client refuses a server with another identity",
  {},
  async (network) => {
    const genuine = await makeCertificate(network, "genuine");
    const changed = await makeCertificate(network, "changed");
    const server = await startServer(network, { args: ["--cert", genuine.cert, "--key", genuine.key] });
    const client = await startClient(network, 0, { args: ["--ca", genuine.cert] });
    await client.stop();
    await server.stop();
    await startServer(network, { args: ["--cert", changed.cert, "--key", changed.key] });
    const refused = await runToEnd(network, network.client(0), "client", {
      args: ["--server", SERVER_ADDRESS, "--split-tunnel", SPLIT_TUNNEL, "--ca", genuine.cert],
    });
    expect({ status: refused.status, stderr: refused.stderr }).toMatchObject({ status: 4 });
    expect(refused.stderr).toMatch(/certificate|identity/i);
  },
);

networkTest("hostile control: a server that does not know the password is refused", {}, async (network) => {
  await startServer(network, { password: "the password of somebody else" });
  const refused = await runToEnd(network, network.client(0), "client", {
    args: ["--server", SERVER_ADDRESS, "--split-tunnel", SPLIT_TUNNEL],
  });
  expect(refused.status).toBe(4);
});
