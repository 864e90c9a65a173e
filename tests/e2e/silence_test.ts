/** A client that goes silent without a goodbye is gone after 60 s; this takes as long as it says. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { clientAddress } from "./harness/network.ts";
import { INNER_SERVER, startClient, startServer } from "./harness/omail.ts";
import { ping } from "./harness/traffic.ts";

/** The required figure, and the keep-alive and status intervals that it may be off by. */
const TIMEOUT_MS = 60_000;
const SLACK_MS = 8_000;

networkTest(
  "silence: after 60 s a silent client's session is gone, a live one's is not",
  { clients: 3, limitSeconds: 100 },
  async (network) => {
    const server = await startServer(network);
    const [stopped, cutOff, alive] = await Promise.all([0, 1, 2].map((index) => startClient(network, index)));
    const sessionOf = async (index: number) =>
      (await server.status()).sessions.find(({ endpoint }) =>
        endpoint?.startsWith(`${clientAddress(index)}:`),
      );
    expect((await server.status()).sessions.length).toBe(3);

    // One keeps its TCP connection but does nothing; the other dies, and not even its kernel can say so.
    const start = performance.now();
    stopped!.program.signal("SIGSTOP");
    await network
      .client(1)
      .nft("table inet cut { chain out { type filter hook output priority 0; drop; }\n}");
    await cutOff!.program.kill();

    await Bun.sleep(TIMEOUT_MS - SLACK_MS);
    expect(await sessionOf(0)).toBeDefined();
    expect(await sessionOf(1)).toBeDefined();
    await server.waitForStatus(
      "only the live session",
      ({ sessions }) => sessions.length === 1,
      2 * SLACK_MS,
    );
    expect(performance.now() - start).toBeLessThan(TIMEOUT_MS + SLACK_MS);
    expect(await sessionOf(2)).toBeDefined();
    expect((await ping(network.client(2), INNER_SERVER, { count: 5 })).received).toBe(5);
    expect(alive!.program.running).toBe(true);

    // One that wakes up after its session ended logs in again.
    stopped!.program.signal("SIGCONT");
    await server.waitForStatus("two sessions", ({ sessions }) => sessions.length === 2);
  },
);
