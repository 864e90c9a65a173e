/** A peer that lies, datagrams in every shape, devices that take nothing, and sessions that end in the middle of it all. */

import { describe, expect, test } from "bun:test";
import { concatBytes } from "../../lib/bytes.ts";
import { encodeKeepalive } from "../../lib/keepalive.ts";
import { HEADER_BYTES, MAX_PIECES, TAG_BYTES } from "../../lib/limits.ts";
import { encodeProbe } from "../../lib/probe_message.ts";
import { pieceSize, readType, RecordType, writeHeader, writePiece } from "../../lib/protocol.ts";
import {
  connectedPairs,
  type DataPlanePair,
  DEFAULT_ENGINE,
  SESSION_ID,
  until,
} from "../support/data_plane_pair.ts";
import { genuineRecord } from "../support/genuine_record.ts";
import { buildPacket, withVnet } from "../support/inner_packet.ts";
import { expectWritten, inject, parts, randomPackets } from "../support/traffic.ts";

const connected = connectedPairs();

/** Asserts that packets get through both ways. */
async function expectWorks(pair: DataPlanePair): Promise<void> {
  await pair.settle();
  pair.server.tun.written.length = 0;
  pair.client.tun.written.length = 0;
  const [up, down] = [randomPackets(true, 20), randomPackets(false, 20, 2)];
  for (const value of up) inject(pair.client, value);
  for (const value of down) inject(pair.server, value);
  await pair.settle();
  expectWritten(pair.server, up);
  expectWritten(pair.client, down);
}

/** Sequence numbers that the client's own data plane does not come to, near enough for its own to stay in the window. */
let nextSequence = 4_000;

async function sendGenuine(
  pair: DataPlanePair,
  type: RecordType,
  plaintext: Uint8Array<ArrayBuffer>,
): Promise<void> {
  for (const datagram of await genuineRecord(type, plaintext, nextSequence++))
    pair.server.udp.deliver(datagram, pair.client.udp.host, pair.client.udp.port);
}

function sendReport(pair: DataPlanePair, recordsSeen: number, recordsExpected: number): Promise<void> {
  const message = {
    replyWanted: false,
    sentAtUs: 0,
    echo: null,
    recordsSeen,
    recordsExpected,
    recordsRestored: 0,
  };
  return sendGenuine(pair, RecordType.keepalive, encodeKeepalive(message));
}

describe("a peer that lies", () => {
  test("false loss makes its own records small, not nobody's and not nothing", async () => {
    const pair = await connected();
    const id = SESSION_ID + 1;
    pair.server.plane.handle({ kind: "add-session", id, allowedIps: ["10.8.0.3/32"], peerOffload: true });
    const statsOf = (wanted: number) => pair.report(pair.server).sessions.find((one) => one.id === wanted)!;
    const [own, other] = [statsOf(SESSION_ID), statsOf(id)];
    // its honest reports stay away
    pair.network.observe = (datagram, from) =>
      from === pair.client.udp && readType(datagram, 0) === RecordType.keepalive ? null : datagram;
    for (let round = 0; round < 30; round++) {
      for (let i = 0; i < 20; i++) inject(pair.server, parts(false, { payload: new Uint8Array(1_000) }));
      await pair.settle();
      pair.clock.nowMs += 100;
      await sendReport(pair, own.txRecords, statsOf(SESSION_ID).txRecords);
      await pair.settle();
    }
    const { recordLimit, datagramBytes } = statsOf(SESSION_ID);
    expect(recordLimit).toBeLessThan(own.recordLimit);
    // one full packet still is one record
    expect(recordLimit).toBeGreaterThanOrEqual(datagramBytes - HEADER_BYTES - TAG_BYTES);
    expect(statsOf(id).recordLimit).toBe(other.recordLimit);
    await expectWorks(pair);
  });

  test("acknowledging what was never sent changes nothing", async () => {
    const pair = await connected();
    const before = pair.stats(pair.server);
    for (const future of [1_000, 2 ** 32, 2 ** 53 - 1]) {
      await sendReport(pair, future, future);
      await sendReport(pair, 0, future);
    }
    for (const number of [0, 1, 77, 2 ** 32 - 1]) {
      for (const datagramBytes of [40, 9_000, 65_535])
        await sendGenuine(pair, RecordType.probe, encodeProbe({ kind: "ack", number, datagramBytes }));
    }
    await pair.settle();
    const { recordLimit, datagramBytes, pathMtu } = pair.stats(pair.server);
    expect({ recordLimit, datagramBytes, pathMtu }).toEqual({
      recordLimit: before.recordLimit,
      datagramBytes: before.datagramBytes,
      pathMtu: before.pathMtu,
    });
    await expectWorks(pair);
  });
});

describe("datagrams in every shape", () => {
  test("records of every length from 0 to 65,535, in one piece and in many: counted, and all goes on", async () => {
    const pair = await connected();
    const { host, port } = pair.client.udp;
    const buffer = new Uint8Array(HEADER_BYTES * MAX_PIECES + 65_536);
    let sent = 0;
    const dropped = () => Object.values(pair.drops(pair.server)).reduce((sum, count) => sum + count, 0);
    for (let length = 0; length <= 65_535; length++) {
      // two in three in one piece; the others as the kernel joins them
      const pieces = length % 3 === 0 ? 2 + ((length / 3) % (MAX_PIECES - 1)) : 1;
      const size = pieceSize(length, pieces);
      for (let piece = 0; piece < pieces; piece++) {
        const at = piece * (HEADER_BYTES + size);
        writeHeader(buffer, at, RecordType.data, length, SESSION_ID, 0, pieces, 200_000 + length);
        writePiece(buffer, at, piece);
      }
      pair.server.udp.deliver(buffer.subarray(0, length + pieces * HEADER_BYTES), host, port);
      sent++;
      // one drop each, whatever the reason, before the next would overload the engine
      if (length % 64 === 63) await until(() => dropped() >= sent);
    }
    expect(dropped()).toBe(sent);
    expect(pair.drops(pair.server)["open-overload"]).toBeUndefined();
    expect(pair.server.tun.written).toEqual([]);
    await expectWorks(pair);
  }, 60_000);

  test("every order of the pieces of a record, with duplicates and pieces that overlap: delivered once", async () => {
    const pair = await connected();
    const { host, port } = pair.client.udp;
    for (const joined of [false, true]) {
      for (const order of permutations([0, 1, 2, 3])) {
        const sequence = nextSequence++;
        const packet = buildPacket(parts(true, { payload: new Uint8Array(1_400).fill(sequence) }));
        const genuine = await genuineRecord(RecordType.data, packet, sequence, 4);
        const overlapping = [
          forgedPiece(sequence, packet.length + TAG_BYTES - 1, 4, order[1]!),
          forgedPiece(sequence, packet.length + TAG_BYTES, 5, order[2]!),
        ];
        const first = genuine[order[0]!]!;
        const rest = order.slice(1).flatMap((piece) => [genuine[piece]!, first, genuine[piece]!]);
        const all = [first, ...overlapping, ...rest];
        for (const bytes of joined ? [concatBytes(...all)] : all)
          pair.server.udp.deliver(bytes.slice(), host, port);
        await pair.settle();
        expect(pair.server.tun.written.splice(0).map((written) => written.toHex())).toEqual([
          withVnet(packet).toHex(),
        ]);
      }
    }
    await expectWorks(pair);
  });

  function forgedPiece(sequence: number, length: number, pieces: number, piece: number): Uint8Array {
    const size = pieceSize(length, pieces);
    const datagram = new Uint8Array(HEADER_BYTES + Math.min(size, length - piece * size));
    writeHeader(datagram, 0, RecordType.data, length, SESSION_ID, 0, pieces, sequence);
    writePiece(datagram, 0, piece);
    return datagram;
  }

  function permutations(values: readonly number[]): number[][] {
    if (values.length < 2) return [[...values]];
    return values.flatMap((value) =>
      permutations(values.filter((other) => other !== value)).map((rest) => [value, ...rest]),
    );
  }
});

describe("devices that take nothing", () => {
  test("a TUN that refuses packets: each is counted, none is kept, and the next ones get through", async () => {
    const pair = await connected();
    pair.server.tun.writeError = 11;
    for (const value of randomPackets(true, 30)) inject(pair.client, value);
    await until(() => pair.drops(pair.server)["tun-write-failed"] === 30);
    expect(pair.server.tun.written).toEqual([]);
    pair.server.tun.writeError = 0;
    await expectWorks(pair);
  });

  test("a full socket: what was read stays within bounds, the rest waits in the TUN, in order", async () => {
    const pair = await connected();
    const up = randomPackets(true, 400, 7);
    pair.client.udp.full = true;
    for (const [index, value] of up.entries()) {
      inject(pair.client, value);
      // the first ones have come to the socket before the others are there
      if (index < 5) await Bun.sleep(5);
    }
    await Bun.sleep(20);
    expect(pair.client.tun.waitingPackets).toBeGreaterThanOrEqual(395);
    pair.client.udp.drain();
    await pair.settle();
    expectWritten(pair.server, up);
    expect(pair.drops(pair.client)).toEqual({});
  });
});

describe("a session that is removed while its records are in flight", () => {
  /** The same session anew at one end, with keys of another epoch. */
  async function addAgain(pair: DataPlanePair): Promise<void> {
    for (const end of [pair.client, pair.server])
      end.plane.handle({ kind: "remove-session", id: SESSION_ID });
    pair.client.said.length = 0;
    await pair.connect();
  }

  test("sealing: nothing of it leaves afterwards", async () => {
    const pair = await connected();
    for (const value of randomPackets(true, 50)) inject(pair.client, value);
    // the loop has read them, and the engine has them
    await Promise.resolve();
    await Promise.resolve();
    pair.client.plane.handle({ kind: "remove-session", id: SESSION_ID });
    const sent = pair.wire.length;
    await Bun.sleep(20);
    expect(pair.wire.length).toBe(sent);
    await addAgain(pair);
    await expectWorks(pair);
  });

  test("waiting for a full socket: forgotten, and the socket is free for others", async () => {
    const pair = await connected();
    pair.client.udp.full = true;
    for (const value of randomPackets(true, 50)) inject(pair.client, value);
    await Bun.sleep(10);
    const sent = pair.wire.length;
    pair.client.plane.handle({ kind: "remove-session", id: SESSION_ID });
    pair.client.udp.drain();
    await Bun.sleep(20);
    expect(pair.wire.length).toBe(sent);
    await addAgain(pair);
    await expectWorks(pair);
  });

  test("opening: not delivered, also not to a session of the same number that came since", async () => {
    const pair = await connected();
    const packet = buildPacket(parts(true, { payload: new Uint8Array(500) }));
    const { host, port } = pair.client.udp;
    const [datagram] = await genuineRecord(RecordType.data, packet, nextSequence++);
    pair.server.udp.deliver(datagram!, host, port);
    pair.server.plane.handle({ kind: "remove-session", id: SESSION_ID });
    const allowedIps = ["10.8.0.2/32", "fd00::2/128"];
    pair.server.plane.handle({ kind: "add-session", id: SESSION_ID, allowedIps, peerOffload: true });
    await Bun.sleep(20);
    // the synchronous engine was done before the session went
    expect(pair.server.tun.written.length).toBe(DEFAULT_ENGINE === "sync" ? 1 : 0);
    expect(pair.stats(pair.server)).toMatchObject({ rxPackets: 0, endpoint: null });
    await addAgain(pair);
    await expectWorks(pair);
  });

  test("half reassembled: the other pieces are unknown", async () => {
    const pair = await connected();
    const packet = buildPacket(parts(true, { payload: new Uint8Array(1_000) }));
    const datagrams = await genuineRecord(RecordType.data, packet, nextSequence++, 3);
    pair.toServer(pair.client.udp, datagrams[0]!);
    await pair.settle();
    pair.server.plane.handle({ kind: "remove-session", id: SESSION_ID });
    for (const datagram of datagrams) pair.toServer(pair.client.udp, datagram);
    await until(() => pair.drops(pair.server)["session-unknown"] === 3);
    expect(pair.server.tun.written).toEqual([]);
    await addAgain(pair);
    await expectWorks(pair);
  });
});
