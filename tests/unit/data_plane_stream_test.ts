/** Records in the TLS stream: packets arrive when UDP does not work, and nothing hostile or stalled does harm. */

import { describe, expect, test } from "bun:test";
import { STREAM_WINDOW_BYTES } from "../../lib/limits.ts";
import {
  connectedPairs,
  type DataPlanePair,
  SERVER_HOST,
  SESSION_ID,
  until,
} from "../support/data_plane_pair.ts";
import { randomPackets, expectWritten, inject, parts } from "../support/traffic.ts";
import { StreamLink } from "../support/stream_link.ts";

const connected = connectedPairs();

/** A pair whose UDP died, and that has moved to its stream. */
async function onStream(engine: "web" | "sync" = "web"): Promise<{ pair: DataPlanePair; link: StreamLink }> {
  const pair = await connected({ engine });
  const link = new StreamLink(pair);
  pair.network.observe = () => null;
  inject(pair.client, parts(true));
  await link.run(() => pair.stats(pair.server).transport === "tcp");
  expect(pair.stats(pair.client).transport).toBe("tcp");
  pair.server.tun.written.splice(0);
  return { pair, link };
}

describe.each(["web", "sync"] as const)("DataPlane in the TLS stream, engine %s", (engine) => {
  test("packets arrive unchanged, once and in order, both ways, and none goes by UDP", async () => {
    const { pair, link } = await onStream(engine);
    const up = randomPackets(true, 100);
    const down = randomPackets(false, 100, 2);
    for (let i = 0; i < 100; i++) {
      inject(pair.client, up[i]!);
      inject(pair.server, down[i]!);
      if (i % 17 === 0) await Bun.sleep(0);
    }
    const { server, client } = pair;
    await link.run(() => server.tun.written.length >= 100 && client.tun.written.length >= 100);
    expectWritten(server, up);
    expectWritten(client, down);
  });

  test("a session goes back to UDP when it answers, and the server follows", async () => {
    const { pair, link } = await onStream(engine);
    pair.network.observe = (datagram) => datagram;
    await link.run(() => pair.stats(pair.client).transport === "udp");
    inject(pair.client, parts(true));
    await link.run(() => pair.stats(pair.server).transport === "udp");
    const moves = pair.client.said.filter((message) => message.kind === "transport-moved");
    expect(moves.map(({ to }) => to)).toEqual(["tcp", "udp"]);
  });
});

describe("records that come by a stream", () => {
  test("under another session's ID, torn, padded, replayed or changed: dropped and counted", async () => {
    const { pair, link } = await onStream();
    inject(pair.client, parts(true));
    const count = link.carried.length;
    await link.run(() => link.carried.length > count && pair.server.tun.written.length === 1);
    const record = link.carried.findLast(({ from }) => from === "client")!.record;
    const { plane } = pair.server;
    const before = pair.drops(pair.server);
    const give = (changed: Uint8Array<ArrayBuffer>) =>
      plane.handle({ kind: "tunnel-in", id: SESSION_ID, records: [changed] });
    const foreign = record.slice();
    foreign[7]! ^= 1;
    give(foreign);
    for (let end = 0; end < record.length; end++) give(record.slice(0, end));
    give(Uint8Array.of(...record, 0));
    give(record.slice());
    const fresh = record.slice();
    fresh[15]! += 100;
    give(fresh);
    await until(() => (pair.drops(pair.server)["decrypt-failed"] ?? 0) === 1);
    const after = pair.drops(pair.server);
    expect((after["session-unknown"] ?? 0) - (before["session-unknown"] ?? 0)).toBe(1);
    expect((after["datagram-malformed"] ?? 0) - (before["datagram-malformed"] ?? 0)).toBe(record.length + 1);
    expect((after["record-replayed"] ?? 0) - (before["record-replayed"] ?? 0)).toBe(1);
    // the sender is told that all of it was taken in
    const taken = pair.server.said.findLast((message) => message.kind === "tunnel-taken");
    expect(taken?.bytes).toBe(record.length);
  });

  test("for a session that is not there: taken and forgotten", async () => {
    const pair = await connected();
    const records = [new Uint8Array(40)];
    pair.server.plane.handle({ kind: "tunnel-in", id: 99, records });
    expect(pair.server.said.at(-1)).toEqual({ kind: "tunnel-taken", id: 99, bytes: 40 });
  });
});

describe("a stream that takes nothing more", () => {
  test("holds up the only session, loses nothing, and flows on", async () => {
    const { pair, link } = await onStream();
    link.drains = false;
    const many = randomPackets(true, 1_500, 3);
    for (const value of many) inject(pair.client, value);
    await Bun.sleep(50);
    link.pump();
    const bytes = link.carried.reduce((sum, { record }) => sum + record.length, 0);
    expect(bytes).toBeLessThan(2 * STREAM_WINDOW_BYTES);
    link.drains = true;
    pair.client.plane.handle({ kind: "tunnel-drained", id: SESSION_ID, bytes: STREAM_WINDOW_BYTES });
    // no time passes: the stream is fast
    await until(() => {
      link.pump();
      return pair.server.tun.written.length >= many.length;
    });
    expectWritten(pair.server, many);
  });

  test("loses what would wait too long where it is slow", async () => {
    const { pair, link } = await onStream();
    link.drains = false;
    // 10 Mbit/s or so into a stream that takes 4
    const many = randomPackets(true, 4_000, 3);
    for (let step = 0; step < 200; step++) {
      for (const value of many.slice(20 * step, 20 * step + 20)) inject(pair.client, value);
      await Bun.sleep(1);
      link.pump();
      pair.clock.nowMs += 10;
      pair.client.plane.handle({ kind: "tunnel-drained", id: SESSION_ID, bytes: 5_000 });
    }
    expect(pair.drops(pair.client)["stream-full"]).toBeGreaterThan(100);
    expect(pair.server.tun.written.length).toBeGreaterThan(500);
  });

  test("loses the packets of its own session where there are others", async () => {
    const { pair, link } = await onStream();
    pair.server.plane.handle({
      kind: "add-session",
      id: 2,
      allowedIps: ["10.8.0.3/32"],
      peerOffload: true,
    });
    link.drains = false;
    for (const value of randomPackets(false, 1_500, 3)) inject(pair.server, value);
    await link.run(() => (pair.drops(pair.server)["stream-full"] ?? 0) > 0);
  });

  test("does not keep a client from finding that UDP works again", async () => {
    const { pair, link } = await onStream();
    link.drains = false;
    for (const value of randomPackets(true, 1_500, 3)) inject(pair.client, value);
    pair.network.observe = (datagram) => datagram;
    await link.run(() => pair.stats(pair.client).transport === "udp");
    await link.run(() => pair.server.tun.written.length > 1_000);
  });
});

test("a session without stream goes by UDP again; one that may not drops and counts", async () => {
  const { pair, link } = await onStream();
  for (const end of [pair.client, pair.server])
    end.plane.handle({ kind: "set-stream", id: SESSION_ID, up: false });
  pair.network.observe = (datagram) => datagram;
  inject(pair.client, parts(true));
  await until(() => pair.server.tun.written.length === 1);
  expect(pair.stats(pair.server).endpoint?.host).not.toBe(SERVER_HOST);
  expect(link.carried.length).toBeGreaterThan(0);
});
