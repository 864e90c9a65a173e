/** The way in under attack: strangers on the network, somebody on the path, and a peer with good keys and bad intent. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { joinPieces } from "../../lib/data_plane_inbound.ts";
import { encodeKeepalive } from "../../lib/keepalive.ts";
import {
  HEADER_BYTES,
  OPEN_IN_FLIGHT_BYTES,
  REASSEMBLY_TIMEOUT_MS,
  VNET_HEADER_BYTES,
} from "../../lib/limits.ts";
import { RecordType, writeHeader, writePiece } from "../../lib/protocol.ts";
import {
  connectedPairs,
  type DataPlanePair,
  DEFAULT_ENGINE,
  SERVER_HOST,
  SESSION_ID,
  until,
} from "../support/data_plane_pair.ts";
import { genuineRecord } from "../support/genuine_record.ts";
import {
  buildPacket,
  kernelVnet,
  type PacketParts,
  type VnetParts,
  withVnet,
} from "../support/inner_packet.ts";
import { check, randomSource } from "../support/property.ts";

const connected = connectedPairs();

const UP: PacketParts = { version: 4, protocol: "udp", payload: new Uint8Array(40).fill(0x55) };

/** Virtio header, IPv4 header and TCP header. */
const VNET_TCP_BYTES = VNET_HEADER_BYTES + 20 + 20;

/** A datagram with any header and any payload. */
function forge(fields: {
  length: number;
  pieces?: number;
  piece?: number;
  sequence?: number;
  id?: number;
}): Uint8Array {
  const { length, pieces = 1, piece = 0, sequence = 5, id = SESSION_ID } = fields;
  const size = Math.ceil(length / pieces);
  const datagram = new Uint8Array(HEADER_BYTES + (piece < pieces - 1 ? size : length - size * (pieces - 1)));
  writeHeader(datagram, 0, RecordType.data, length, id, 0, pieces, sequence);
  writePiece(datagram, 0, piece);
  return datagram;
}

/** A record of one datagram, sealed with the client's own key. */
async function sealed(
  type: RecordType,
  plaintext: Uint8Array<ArrayBuffer>,
  sequence: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const [datagram] = await genuineRecord(type, plaintext, sequence);
  return datagram!;
}

/** Asserts that the session works as before and was told nothing new. */
async function expectUnharmed(pair: DataPlanePair): Promise<void> {
  await pair.settle();
  expect(pair.stats(pair.server).endpoint?.host).toBe(pair.client.udp.host);
}

describe("Inbound: strangers", () => {
  test("random datagrams: no answer, no packet, every one counted, the session unharmed", async () => {
    const pair = await connected();
    const stranger = pair.stranger();
    let answered = 0;
    stranger.onReceive(() => answered++);
    const random = randomSource();
    for (let i = 0; i < 3000; i++) {
      const datagram = new Uint8Array(1 + random(200)).map(() => random(256));
      if (i % 2 === 0) datagram[0] = 1 + random(3);
      pair.toServer(stranger, datagram);
    }
    await expectUnharmed(pair);
    expect([answered, pair.server.tun.written.length]).toEqual([0, 0]);
    const drops = pair.drops(pair.server);
    expect(drops["datagram-malformed"]).toBeGreaterThanOrEqual(2900);
  });

  test("well-formed headers: unknown session, unknown epoch and forged record are told apart and not answered", async () => {
    const pair = await connected();
    const stranger = pair.stranger();
    let answered = 0;
    stranger.onReceive(() => answered++);
    pair.toServer(stranger, forge({ length: 100, id: 99 }));
    const wrongEpoch = forge({ length: 100 });
    wrongEpoch[9] = 7;
    pair.toServer(stranger, wrongEpoch);
    pair.toServer(stranger, forge({ length: 100, sequence: 2 ** 40 - 1 }));
    await expectUnharmed(pair);
    expect(pair.drops(pair.server)).toEqual({
      "session-unknown": 1,
      "epoch-unknown": 1,
      "decrypt-failed": 1,
    });
    expect(answered).toBe(0);
  });

  test("genuine datagrams replayed from anywhere: delivered once, no answer, the endpoint stays", async () => {
    const pair = await connected();
    for (let i = 0; i < 20; i++) pair.client.tun.inject(withVnet(buildPacket({ ...UP, identification: i })));
    await pair.settle();
    const stranger = pair.stranger();
    let answered = 0;
    stranger.onReceive(() => answered++);
    const recorded = pair.wire.filter(({ from }) => from !== SERVER_HOST).map(({ bytes }) => bytes);
    for (let round = 0; round < 5; round++) {
      for (const datagram of recorded) {
        pair.toServer(stranger, datagram);
        pair.toServer(pair.client.udp, datagram);
      }
    }
    await expectUnharmed(pair);
    expect(pair.server.tun.written.length).toBe(20);
    expect(answered).toBe(0);
    expect(pair.drops(pair.server)).toEqual({ "record-replayed": recorded.length * 10 });
  });

  test("genuine datagrams changed on the way: none is delivered, whatever byte is changed", async () => {
    const pair = await connected();
    const held: Uint8Array<ArrayBuffer>[] = [];
    pair.network.observe = (datagram, from) => {
      if (from.host === SERVER_HOST) return datagram;
      held.push(datagram);
      return null;
    };
    pair.client.tun.inject(withVnet(buildPacket(UP)));
    await until(() => held.length === 1);
    pair.network.observe = (datagram) => datagram;
    const original = held[0]!;
    for (let i = 0; i < original.length; i++) {
      const changed = original.slice();
      changed[i]! ^= 1 << (i & 7);
      pair.toServer(pair.client.udp, changed);
    }
    for (let end = 0; end < original.length; end++) pair.toServer(pair.client.udp, original.slice(0, end));
    await pair.settle();
    expect(pair.server.tun.written.length).toBe(0);
    pair.toServer(pair.client.udp, original);
    await until(() => pair.server.tun.written.length === 1);
  });

  test("pieces that never complete stay within bounds, and a genuine record of pieces still gets through", async () => {
    const pair = await connected();
    const stranger = pair.stranger();
    for (let sequence = 10; sequence < 1000; sequence++) {
      pair.toServer(stranger, forge({ length: 60_000, pieces: 50, sequence }));
      pair.toServer(pair.client.udp, forge({ length: 60_000, pieces: 50, sequence: sequence + 5000 }));
      pair.toServer(
        pair.stranger("203.0.113.200", sequence),
        forge({ length: 600, pieces: 2, piece: 1, sequence }),
      );
    }
    await pair.settle();
    const large = { version: 4, protocol: "tcp", payload: new Uint8Array(15_000) } as const;
    pair.client.tun.inject(withVnet(buildPacket({ ...large, checksum: "pseudo" }), kernelVnet(large, 1300)));
    // one super-packet or, where records are small, its parts: each a record of several pieces
    const delivered = () =>
      pair.server.tun.written.reduce((sum, { length }) => sum + length - VNET_TCP_BYTES, 0);
    await until(() => delivered() === large.payload.length);
    pair.clock.nowMs += REASSEMBLY_TIMEOUT_MS;
    pair.server.plane.tick();
    const drops = pair.drops(pair.server);
    expect(drops["endpoint-unproven"]).toBe(990);
    const { "reassembly-overflow": overflow = 0, "reassembly-timeout": timedOut = 0 } = drops;
    expect(overflow + timedOut).toBe(2 * 990);
    expect(timedOut).toBeLessThanOrEqual(35);
  });

  test("more forged records than can be opened at a time are dropped, and then all goes on", async () => {
    const pair = await connected();
    const stranger = pair.stranger();
    const datagram = forge({ length: 60_000 });
    const count = Math.ceil(OPEN_IN_FLIGHT_BYTES / 60_000) + 20;
    for (let i = 0; i < count; i++) pair.server.udp.deliver(datagram.slice(), stranger.host, stranger.port);
    const dropped = () => {
      const { "open-overload": overload = 0, "decrypt-failed": failed = 0 } = pair.drops(pair.server);
      return { overload, all: overload + failed };
    };
    await until(() => dropped().all === count);
    // the synchronous engine has opened a record before the next one comes
    if (DEFAULT_ENGINE === "web") expect(dropped().overload).toBeGreaterThanOrEqual(20);
    else expect(dropped().overload).toBe(0);
    await expectUnharmed(pair);
  });
});

describe("Inbound: a peer with good keys", () => {
  /** Sends one authentic record of the client's and returns what the server counted and wrote. */
  async function receive(pair: DataPlanePair, type: RecordType, plaintext: Uint8Array<ArrayBuffer>) {
    pair.toServer(pair.client.udp, await sealed(type, plaintext, 1000));
    await pair.settle();
    return {
      drops: pair.drops(pair.server),
      written: pair.server.tun.written.map((written) => written.toHex()),
    };
  }

  test("a source that is not the session's is dropped, its neighbours in the record are not", async () => {
    for (const serverOffload of [true, false]) {
      const pair = await connected({ serverOffload });
      const good = buildPacket(UP);
      const spoofed = [
        buildPacket({ ...UP, source: "10.8.0.3" }),
        buildPacket({ ...UP, version: 6, source: "fd00::3", destination: "fd00::1" }),
      ];
      const plaintext = Uint8Array.from(Buffer.concat([good, ...spoofed, good]));
      const { drops, written } = await receive(pair, RecordType.data, plaintext);
      const expected = (serverOffload ? withVnet(good) : good).toHex();
      expect(written).toEqual([expected, expected]);
      expect(drops).toEqual({ "source-not-allowed": 2 });
    }
  });

  test("the source check holds behind a virtio header, too", async () => {
    const pair = await connected();
    const spoofed: PacketParts = { ...UP, source: "10.8.0.1" };
    const { drops, written } = await receive(
      pair,
      RecordType.offload,
      withVnet(buildPacket(spoofed), kernelVnet(spoofed)),
    );
    expect({ drops, written }).toEqual({ drops: { "source-not-allowed": 1 }, written: [] });
  });

  test.each([
    ["half a packet", buildPacket(UP).slice(0, 30)],
    ["a byte behind a packet", Uint8Array.of(...buildPacket(UP), 0)],
    ["no IP version", new Uint8Array(40)],
    ["one byte", Uint8Array.of(0x45)],
  ])(
    "a data record with %s: what is whole before it counts, the rest is dropped",
    async (_name, plaintext) => {
      const pair = await connected();
      const { drops, written } = await receive(pair, RecordType.data, plaintext);
      expect(drops).toEqual({ "packet-malformed": 1 });
      expect(written.length).toBeLessThanOrEqual(1);
    },
  );

  test.each([
    ["a super-packet that says it needs no checksum", { flags: 0 }],
    ["an unknown type", { gsoType: 3 }],
    ["the other family's type", { gsoType: 4 }],
    ["a checksum outside the packet", { csumStart: 65_000 }],
    ["segments of no bytes", { gsoSize: 0 }],
  ] satisfies [string, VnetParts][])("a lying virtio header is dropped: %s", async (_name, lie) => {
    const pair = await connected();
    const value: PacketParts = { version: 4, protocol: "tcp", payload: new Uint8Array(900) };
    const honest = withVnet(buildPacket({ ...value, checksum: "pseudo" }), kernelVnet(value, 300));
    const liar = withVnet(buildPacket({ ...value, checksum: "pseudo" }), {
      ...kernelVnet(value, 300),
      ...lie,
    });
    const plaintext = Uint8Array.of(...honest, ...liar, ...honest);
    const { drops, written } = await receive(pair, RecordType.offload, plaintext);
    expect(drops).toEqual({ "offload-malformed": 1 });
    expect(written).toEqual([honest.toHex(), honest.toHex()]);
  });

  test("a cut-off virtio header or packet at the end of a record is dropped", async () => {
    const whole = withVnet(buildPacket(UP));
    for (const end of [1, 9, 10, 11, 29, 40, whole.length - 1]) {
      const pair = await connected();
      const plaintext = Uint8Array.of(...whole, ...whole.subarray(0, end));
      const { drops, written } = await receive(pair, RecordType.offload, plaintext);
      expect(drops).toEqual({ "packet-malformed": 1 });
      expect(written).toEqual([whole.toHex()]);
    }
  });

  test("virtio headers to a device without offload are dropped", async () => {
    const pair = await connected({ serverOffload: false });
    const { drops, written } = await receive(pair, RecordType.offload, withVnet(buildPacket(UP)));
    expect({ drops, written }).toEqual({ drops: { "offload-malformed": 1 }, written: [] });
  });

  test("a keep-alive that is none is dropped; one that wants an answer gets at most one each 10 ms", async () => {
    const pair = await connected();
    const { drops } = await receive(pair, RecordType.keepalive, new Uint8Array(31));
    expect(drops).toEqual({ "packet-malformed": 1 });
    pair.clock.nowMs += 1000;
    pair.wire.length = 0;
    const message = {
      replyWanted: true,
      probe: false,
      sentAtUs: 1,
      echo: null,
      recordsSeen: 0,
      recordsExpected: 0,
      recordsRestored: 0,
    };
    for (let i = 0; i < 50; i++) {
      pair.toServer(pair.client.udp, await sealed(RecordType.keepalive, encodeKeepalive(message), 2000 + i));
    }
    await pair.settle();
    const answers = pair.wire.filter(
      ({ from, bytes }) => from === SERVER_HOST && bytes[0] === RecordType.keepalive,
    );
    expect(answers.length).toBe(1);
  });

  test("random plaintexts of every type: nothing throws, nothing foreign is written", async () => {
    const pair = await connected();
    const random = randomSource();
    for (let i = 0; i < 300; i++) {
      const plaintext = new Uint8Array(1 + random(120)).map(() => random(256));
      if (i % 2 === 0) plaintext[i % 4 === 0 ? 0 : 10] = 0x45;
      const type = ([1, 2, 3] as const)[i % 3]!;
      pair.toServer(pair.client.udp, await sealed(type, plaintext, 3000 + i));
    }
    await expectUnharmed(pair);
    expect(pair.server.tun.written.length).toBe(0);
  });
});

describe("joinPieces", () => {
  /** The datagrams of one record, back to back, and header and sealed bytes as they must come out. */
  function record(length: number, pieces: number) {
    const size = Math.ceil(length / pieces);
    const body = new Uint8Array(length).map((_, i) => i * 7 + (i >> 8));
    const datagrams = Array.from({ length: pieces }, (_, piece) => {
      const datagram = forge({ length, pieces, piece });
      datagram.set(body.subarray(piece * size, (piece + 1) * size), HEADER_BYTES);
      return datagram;
    });
    const whole = Buffer.concat([datagrams[0]!.subarray(0, HEADER_BYTES), body]).toString("hex");
    return { datagrams, whole, first: HEADER_BYTES + size };
  }

  const shape = fc
    .tuple(fc.integer({ min: 2, max: 40 }), fc.integer({ min: 256, max: 1400 }))
    .map(([pieces, size]) => ({ pieces, length: pieces * size - (size % pieces) }));

  test("joins the datagrams of a whole record in place, wherever it stands", () => {
    check(
      fc.property(shape, fc.nat(20), fc.nat(20), ({ length, pieces }, before, after) => {
        const { datagrams, whole, first } = record(length, pieces);
        const joined = Buffer.concat(datagrams);
        const buffer = Buffer.concat([new Uint8Array(before), joined, new Uint8Array(after).fill(0xee)]);
        expect(joinPieces(buffer, before, first, buffer.length)).toBe(joined.length);
        expect(buffer.subarray(before, before + HEADER_BYTES + length).toString("hex")).toBe(whole);
        expect(buffer.subarray(before + joined.length).every((byte) => byte === 0xee)).toBe(true);
      }),
      60,
    );
  });

  test("moves nothing when a piece is missing, out of order, of another record, or cut off", () => {
    const { datagrams, first } = record(3000, 3);
    const other = forge({ length: 3000, pieces: 3, piece: 1, sequence: 6 });
    const [a, b, c] = datagrams as [Uint8Array, Uint8Array, Uint8Array];
    for (const parts of [
      [a],
      [a, b],
      [a, c, b],
      [a, other, c],
      [a, b, c.slice(0, -1)],
      [b, c, a],
      [a, a, a],
    ]) {
      const buffer = Buffer.concat(parts);
      const before = buffer.toString("hex");
      expect(joinPieces(buffer, 0, first, buffer.length)).toBe(0);
      expect(buffer.toString("hex")).toBe(before);
    }
  });
});
