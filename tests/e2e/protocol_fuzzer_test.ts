/** The protocol fuzzer against the real executables: whatever a peer says, it harms only itself. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { clientAddress, SERVER_ADDRESS } from "./harness/network.ts";
import { INNER_SERVER, PASSWORD, SPLIT_TUNNEL, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { ping } from "./harness/traffic.ts";
import type { FuzzTally } from "./programs/protocol_fuzzer.ts";

/** OMAIL_FUZZ_SECONDS makes it a long run, OMAIL_SEED another one. */
const SECONDS = Number(process.env["OMAIL_FUZZ_SECONDS"] ?? 6);
const SEED = process.env["OMAIL_SEED"] ?? "1";
const ADDRESSES = 100;
/** A client that meets no nonsense but a closed connection waits longer and longer: a new one tries more often. */
const CLIENT_MS = 2_500;
/** What the server logs only when something failed that it did not foresee. */
const UNFORESEEN = /control connection failed|Unexpected failure|data plane/i;

networkTest(
  "protocol fuzzer: a server stands it, and its client at work loses nothing",
  { clients: 2, limitSeconds: SECONDS + 50 },
  async (network) => {
    const attacker = network.client(1);
    const prefix = clientAddress(1).replace(/\d+$/, "");
    const others = Array.from({ length: ADDRESSES }, (_, i) => `${prefix}${10 + i}`);
    const batch = others.map((address) => `address add ${address}/32 dev wan\n`).join("");
    await attacker.run(["ip", "-batch", "-"], { input: batch });
    const server = await startServer(network, { args: ["--handshake-rate", "10000"] });
    await startClient(network);
    const memoryBefore = await server.residentBytes();
    const answers = ping(network.client(0), INNER_SERVER, { count: SECONDS * 50, intervalSeconds: 0.02 });
    const tally = (await attacker.runHelper(
      "protocol_fuzzer",
      [SERVER_ADDRESS, "51820", `${SECONDS}`, SEED, PASSWORD, clientAddress(1), others.join(",")],
      SECONDS * 1000 + timeoutSeconds(30),
    )) as FuzzTally;
    const growth = (await server.residentBytes()) - memoryBefore;
    console.log(`${JSON.stringify(tally)}; server memory grew by ${(growth / 1e6).toFixed(1)} MB`);
    expect((await answers).received).toBe(SECONDS * 50);
    expect(tally.logins).toBeGreaterThan(0);
    expect(tally.endings["protocol"]).toBeGreaterThan(0);
    expect(tally.endings["internal"]).toBeUndefined();
    expect(server.program.output).not.toMatch(UNFORESEEN);
    // the records were genuine: it was their packets that were refused
    const { drops } = (await server.status()).totals;
    console.log(JSON.stringify(drops));
    expect(drops["offload-malformed"]).toBeGreaterThan(0);
    expect(drops["packet-malformed"]).toBeGreaterThan(0);
    expect(server.program.running).toBe(true);
    await server.stop();
  },
);

networkTest(
  "protocol fuzzer: a client that meets a hostile server ends with a clear word",
  { limitSeconds: SECONDS + 50 },
  async (network) => {
    const hostile = network.server.startHelper("hostile_server", "51820", SEED);
    await until("the hostile server", timeoutSeconds(10), async () =>
      hostile.output.includes("listening") ? true : undefined,
    );
    const endMs = performance.now() + SECONDS * 1000;
    let ended = 0;
    while (performance.now() < endMs) {
      const client = await startClient(network, 0, {
        waitUntilReady: false,
        args: ["--split-tunnel", SPLIT_TUNNEL],
      });
      await Promise.race([client.program.exited, Bun.sleep(CLIENT_MS)]);
      if (client.program.running) {
        // it may be about to end by itself
        expect([0, 1, 4, 143]).toContain(await client.program.stop("SIGTERM"));
      } else {
        // nonsense; refused, or a server that could not prove itself: never a crash
        expect([1, 4]).toContain(await client.program.exited);
        expect(client.program.output).toMatch(/error: (Cannot|The server) /);
        ended++;
      }
      expect(client.program.output).not.toMatch(/Unexpected failure|panic|segmentation/i);
    }
    const counts = hostile.output.trimEnd().split("\n").at(-1)!;
    console.log(`hostile server: ${counts}; clients that gave up: ${ended}`);
    expect((JSON.parse(counts) as { connections: number }).connections).toBeGreaterThan(2);
  },
);
