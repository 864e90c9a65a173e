/** Many datagrams of one call: records that came whole come out whole, everything else one by one and as it was sent. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { HostPort } from "../../lib/address.ts";
import { HEADER_BYTES, MAX_PIECES, TAG_BYTES } from "../../lib/limits.ts";
import { writeParity } from "../../lib/parity.ts";
import {
  datagramSize,
  MAX_PARITY_GROUPS,
  parityPiece,
  pieceSize,
  readLength,
  readParityGroups,
  readPiece,
  readPieces,
  readSequence,
  RecordType,
  writeDatagrams,
  writeHeader,
  writePiece,
} from "../../lib/protocol.ts";
import { AF_INET, AF_INET6, encodeSockaddr } from "../../lib/sockaddr_linux.ts";
import { DatagramBatch } from "../../lib/udp_batch.ts";
import { UdpPeers } from "../../lib/udp_peers.ts";
import { batchKernel, type Message } from "../support/batch_kernel.ts";
import { check, randomSource } from "../support/property.ts";

const PEER: HostPort = { host: "192.0.2.7", port: 51_820 };
const STRANGER: HostPort = { host: "203.0.113.9", port: 4_444 };
const PIECE_BYTES = 1_436;

const sealedOf = (length: number, sequence = 0) =>
  new Uint8Array(length).map((_, i) => sequence + i * 7 + (i >> 8));

/** The datagrams of record `sequence`, parities ahead. */
function datagrams(length: number, pieces: number, sequence = 5, groups = 0): Uint8Array<ArrayBuffer>[] {
  const header = new Uint8Array(HEADER_BYTES);
  writeHeader(header, 0, RecordType.data, length, 9, 1, pieces, sequence);
  const body = sealedOf(length, sequence);
  const parity = new Uint8Array(groups * pieceSize(length, pieces));
  writeParity(parity, body, null, pieces, groups);
  const out = new Uint8Array(length + parity.length + (pieces + groups) * HEADER_BYTES);
  writeDatagrams(out, header, body, null, groups === 0 ? null : parity, pieces);
  const all: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 0; at < out.length; at += all.at(-1)!.length)
    all.push(out.slice(at, at + datagramSize(out, at, out.length)));
  return all;
}

const from = (peer: HostPort, all: readonly Uint8Array[]): Message[] =>
  all.map((bytes) => ({ bytes, name: encodeSockaddr(AF_INET6, peer) }));

/** What a batch handed on, in order: whole records and messages by themselves. */
interface Taken {
  readonly whole?: string;
  readonly sequence?: number;
  readonly alone?: string;
  readonly sender: HostPort;
}

/** A batch, the kernel that fills it, and what it handed on of one call. */
function batchOf(pieceBytes = PIECE_BYTES) {
  const batch = new DatagramBatch(pieceBytes, new UdpPeers());
  const fill = batchKernel(batch);
  const take = (messages: readonly Message[]): { taken: Taken[]; longest: number } => {
    const taken: Taken[] = [];
    const longest = batch.take(
      fill(messages),
      (bytes, end, sender) => taken.push({ alone: bytes.subarray(0, end).toHex(), sender }),
      (header, offset, sealed, start, sender) => {
        expect(readPiece(header, offset)).toBe(0);
        const whole = sealed.subarray(start, start + readLength(header, offset)).toHex();
        taken.push({ whole, sequence: readSequence(header, offset), sender });
      },
    );
    return { taken, longest };
  };
  return { batch, take };
}

const wholeOf = (length: number, sequence = 5, sender = PEER): Taken => ({
  whole: sealedOf(length, sequence).toHex(),
  sequence,
  sender,
});
const aloneOf = (all: readonly Uint8Array[], sender = PEER): Taken[] =>
  all.map((bytes) => ({ alone: bytes.toHex(), sender }));

describe("DatagramBatch", () => {
  test("whole records one behind the other, with and without parities, of full pieces and shorter ones", () => {
    const { take } = batchOf();
    const shapes = [
      [17, 1, 0],
      [1_436, 1, 0],
      [2 * 1_436, 2, 0],
      [3 * 1_436, 3, 1],
      [4_001, 3, 3],
      [20_000, 14, 8],
      [512, 2, 2],
      [44 * 1_000, 44, 0],
      [40, 1, 0],
    ] as const;
    const messages = shapes.flatMap(([length, pieces, groups], i) =>
      from(PEER, datagrams(length, pieces, i, groups)),
    );
    // twice: the places are ready for the next call
    for (let i = 0; i < 2; i++) {
      const { taken, longest } = take(messages);
      expect(taken).toEqual(shapes.map(([length], sequence) => wholeOf(length, sequence)));
      expect(longest).toBeWithin(HEADER_BYTES + 1_430, HEADER_BYTES + 1_437);
    }
  });

  test("a record that the end of the call cuts: its pieces one by one, as those that come with the next call", () => {
    for (const groups of [0, 2]) {
      const all = datagrams(5_000, 5, 5, groups);
      for (let cut = 1; cut < all.length; cut++) {
        const { take } = batchOf();
        expect(take(from(PEER, all.slice(0, cut))).taken).toEqual(aloneOf(all.slice(0, cut)));
        const rest = [...all.slice(cut), ...datagrams(3_000, 3, 6)];
        const { taken } = take(from(PEER, rest));
        // when only parities went before, the pieces are a record without parity
        const expected =
          cut <= groups ? [...aloneOf(all.slice(cut, groups)), wholeOf(5_000)] : aloneOf(all.slice(cut));
        expect(taken).toEqual([...expected, wholeOf(3_000, 6)]);
      }
    }
  });

  test("as many messages as a call may give, the last record cut", () => {
    const { batch, take } = batchOf();
    const all = [0, 1, 2].flatMap((i) => datagrams(50 * 1_000, 50, i)).slice(0, batch.messages);
    expect(all.length).toBe(batch.messages);
    const { taken } = take(from(PEER, all));
    expect(taken).toEqual([wholeOf(50_000, 0), wholeOf(50_000, 1), ...aloneOf(all.slice(100))]);
  });

  test("out of order, twice, lost, or of another record: one by one, and the next record whole", () => {
    const [a, b] = [datagrams(3_000, 3, 1), datagrams(3_000, 3, 2)] as const;
    const [p, q] = [datagrams(3_000, 3, 1, 2), datagrams(3_000, 3, 2, 2)] as const;
    const threefold = p[1]!.slice();
    writePiece(threefold, 0, parityPiece(3, 1));
    const next = datagrams(4_000, 4, 3, 1);
    for (const parts of [
      [a[0], a[2], a[1]],
      [a[0], b[1], a[2]],
      [a[0], a[0]],
      [a[1], a[2]],
      [a[0], a[1]],
      [p[0], p[2], p[3]],
      [p[0], q[1], p[2], p[3]],
      [p[0], threefold, p[2], p[3]],
      [p[0], p[1], p[2], p[4]],
    ] as Uint8Array[][]) {
      const { take } = batchOf();
      const { taken } = take(from(PEER, [...parts, ...next]));
      expect(taken).toEqual([...aloneOf(parts), wholeOf(4_000, 3)]);
    }
  });

  test("a parity that does not belong leaves the pieces behind it whole", () => {
    const all = datagrams(3_000, 3, 5, 2);
    const { take } = batchOf();
    for (const ahead of [[all[1]!], [all[1]!, all[0]!], [all[0]!]]) {
      const { taken } = take(from(PEER, [...ahead, ...all.slice(2)]));
      expect(taken).toEqual([...aloneOf(ahead), wholeOf(3_000)]);
    }
  });

  test("a foreign sender in the middle: nothing of two senders becomes one record", () => {
    for (const foreign of [
      STRANGER,
      { ...PEER, port: PEER.port + 1 },
      { ...PEER, port: PEER.port ^ 0x100 },
    ]) {
      const { take } = batchOf();
      const all = datagrams(3_000, 3);
      const messages = [
        ...from(PEER, all.slice(0, 1)),
        ...from(foreign, all.slice(1, 2)),
        ...from(PEER, all.slice(2)),
        ...from(foreign, all),
      ];
      expect(take(messages).taken).toEqual([
        ...aloneOf(all.slice(0, 1)),
        ...aloneOf(all.slice(1, 2), foreign),
        ...aloneOf(all.slice(2)),
        wholeOf(3_000, 5, foreign),
      ]);
    }
  });

  test("each call has room for the longest name, whatever came before", () => {
    const { take } = batchOf();
    const all = datagrams(3_000, 3);
    const ipv6 = { host: "2001:db8::7", port: 51_820 };
    const short = all.map((bytes) => ({ bytes, name: encodeSockaddr(AF_INET, PEER) }));
    for (let i = 0; i < 2; i++) {
      expect(take(short).taken).toEqual([wholeOf(3_000)]);
      expect(take(from(ipv6, all)).taken).toEqual([wholeOf(3_000, 5, ipv6)]);
    }
  });

  test("a message that the kernel joined needs the rest, also as the longest of all", () => {
    const { batch, take } = batchOf();
    const joined = Buffer.concat(datagrams(40_000, 30, 1, 2));
    const longest = sealedOf(65_535);
    const lone = datagrams(90, 1, 2);
    for (const bytes of [joined, longest]) {
      const result = take(from(PEER, [...lone, bytes, ...lone]));
      expect(result.taken).toEqual([wholeOf(90, 2), ...aloneOf([bytes]), wholeOf(90, 2)]);
      expect(result.longest).toBe(bytes.length);
      expect(result.longest).toBeGreaterThan(HEADER_BYTES + batch.pieceBytes);
    }
  });

  test("datagrams larger than the places, whole or pieces: one by one", () => {
    const { take } = batchOf(1_000);
    const [large, pieces] = [datagrams(1_001, 1, 1), datagrams(3_003, 3, 2, 1)];
    const { taken, longest } = take(from(PEER, [...large, ...pieces, ...datagrams(3_000, 3, 3)]));
    expect(taken).toEqual([...aloneOf([...large, ...pieces]), wholeOf(3_000, 3)]);
    expect(longest).toBe(HEADER_BYTES + 1_001);
  });

  test("lengths of 0 to 17 bytes come as long as they were, whatever the places held before", () => {
    const { take } = batchOf();
    const before = from(PEER, datagrams(20_000, 18));
    const smallest = datagrams(TAG_BYTES + 1, 1)[0]!;
    const short = Array.from({ length: 18 }, (_, length) => smallest.subarray(0, length));
    for (let i = 0; i < 2; i++) {
      expect(take(before).taken).toEqual([wholeOf(20_000)]);
      expect(take(from(PEER, short)).taken).toEqual(aloneOf(short));
    }
  });

  test("headers that no sender writes are no record", () => {
    const { take } = batchOf();
    const header = (change: (bytes: Uint8Array) => void, length = 3_000, pieces = 3) => {
      const all = datagrams(length, pieces, 5, pieces > 1 ? 1 : 0);
      for (const bytes of all) change(bytes);
      return all;
    };
    for (const all of [
      header((bytes) => (bytes[0] = 0)),
      header((bytes) => (bytes[0] = 9)),
      header((bytes) => bytes.fill(0, 2, 4)),
      header((bytes) => bytes.fill(0xff, 2, 4)),
      header((bytes) => (bytes[10] = 0)),
      header((bytes) => (bytes[10] = MAX_PIECES + 1)),
      header((bytes) => (bytes[10] = 255)),
      header((bytes) => (bytes[1] = 255)),
      header((bytes) => (bytes[1] = 0), 100, 1).map((bytes) => bytes.subarray(0, -1)),
      header((bytes) => (bytes[1] = 1), 100, 1),
    ]) {
      expect(take(from(PEER, all)).taken).toEqual(aloneOf(all));
    }
  });

  test("a last piece of less than nothing is no record, though the places hold its header from before", () => {
    const { take } = batchOf();
    // 5 bytes in 7 pieces: the last would have -1, and so be a datagram of 15
    const all = Array.from({ length: 7 }, (_, piece) => {
      const bytes = new Uint8Array(HEADER_BYTES + 1);
      writeHeader(bytes, 0, RecordType.data, 5, 9, 1, 7, 5);
      writePiece(bytes, 0, piece);
      return bytes;
    });
    take(from(PEER, all));
    const cut = [...all.slice(0, 6), all[6]!.subarray(0, 15)];
    expect(take(from(PEER, cut)).taken).toEqual(aloneOf(cut));
  });

  test("nothing received, and nobody who receives", () => {
    const { batch, take } = batchOf();
    expect(take([])).toEqual({ taken: [], longest: 0 });
    expect(batch.take(0, null, null)).toBe(0);
    const fill = batchKernel(batch);
    expect(batch.take(fill(from(PEER, datagrams(3_000, 3))), null, null)).toBe(HEADER_BYTES + 1_000);
  });
});

/** What a receiver makes of datagrams one by one: bytes by sender, record and piece, in any order. */
function piecesOf(sender: HostPort, bytes: Uint8Array): string[] {
  const found: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const size = datagramSize(bytes, at, bytes.length);
    if (size === 0) return [...found, `${sender.host} rest ${bytes.subarray(at).toHex()}`];
    const payload = bytes.subarray(at + HEADER_BYTES, at + size).toHex();
    found.push(`${sender.host} ${readSequence(bytes, at)} ${readPiece(bytes, at)} ${payload}`);
    at += size;
  }
  return found;
}

/** The pieces of a record, as if they had come one by one. */
function piecesOfWhole(sender: HostPort, header: Uint8Array, sealed: Uint8Array): string[] {
  const bytes = new Uint8Array(sealed.length + readPieces(header, 0) * HEADER_BYTES);
  writeDatagrams(bytes, header, sealed, null, null, readPieces(header, 0));
  return piecesOf(sender, bytes);
}

describe("DatagramBatch against handing every datagram on by itself", () => {
  const shape = fc
    .record({
      pieces: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 20 })),
      size: fc.oneof(fc.constant(PIECE_BYTES), fc.integer({ min: 256, max: PIECE_BYTES + 20 })),
      groups: fc.nat(MAX_PARITY_GROUPS),
      stranger: fc.boolean(),
    })
    .map(({ pieces, size, groups, stranger }) => ({
      pieces,
      length: pieces * size - (size % pieces),
      groups: pieces === 1 ? 0 : Math.min(groups, pieces),
      peer: stranger ? STRANGER : PEER,
    }));

  /** Loses, repeats, exchanges, joins, cuts and spoils messages. */
  function disturb(messages: Message[], disturbances: number, seed: number): Message[] {
    const random = randomSource(seed);
    const all = [...messages];
    for (let i = 0; i < disturbances && all.length > 1; i++) {
      const at = random(all.length - 1);
      const [one, next] = [all[at]!, all[at + 1]!];
      const spoilt = one.bytes.slice();
      if (spoilt.length > 0) spoilt[random(Math.min(HEADER_BYTES, spoilt.length))]! ^= 1 << random(8);
      const ways: Message[][] = [
        [next],
        [one, one, next],
        [next, one],
        [{ ...one, bytes: Uint8Array.from(Buffer.concat([one.bytes, next.bytes])) }],
        [{ ...one, bytes: one.bytes.slice(0, random(one.bytes.length + 1)) }, next],
        [{ ...one, bytes: spoilt }, next],
        [
          { ...one, name: next.name },
          { ...next, name: encodeSockaddr(AF_INET6, STRANGER) },
        ],
      ];
      all.splice(at, 2, ...ways[random(ways.length)]!);
    }
    return all;
  }

  test("the same pieces in the same order, apart from parities of whole records", () => {
    const { batch } = batchOf();
    const fill = batchKernel(batch);
    const decoded = new UdpPeers();
    let whole = 0;
    check(
      fc.property(
        fc.array(shape, { minLength: 1, maxLength: 12 }),
        fc.nat(6),
        fc.nat(),
        (records, disturbances, seed) => {
          const sent = records.flatMap(({ length, pieces, groups, peer }, i) =>
            from(peer, datagrams(length, pieces, i, groups)),
          );
          const messages = disturb(sent, disturbances, seed).slice(0, batch.messages);
          const expected = messages.flatMap(({ bytes, name }) =>
            piecesOf(decoded.named(name, 0, name.length), bytes),
          );
          const actual: string[] = [];
          const parities = new Set<string>();
          const longest = batch.take(
            fill(messages),
            (bytes, end, sender) => actual.push(...piecesOf(sender, bytes.slice(0, end))),
            (header, offset, sealed, start, sender) => {
              whole++;
              const ahead = header.slice(offset, offset + HEADER_BYTES);
              const length = readLength(ahead, 0);
              actual.push(...piecesOfWhole(sender, ahead, sealed.slice(start, start + length)));
              for (const { bytes, name } of messages)
                if (bytes.length > HEADER_BYTES && readParityGroups(bytes, 0) > 0)
                  for (const piece of piecesOf(decoded.named(name, 0, name.length), bytes))
                    if (piece.startsWith(`${sender.host} ${readSequence(ahead, 0)} `)) parities.add(piece);
            },
          );
          expect(longest).toBe(Math.max(...messages.map(({ bytes }) => bytes.length)));
          const isLeftAway = (piece: string) => parities.has(piece);
          expect(actual.filter((piece) => !isLeftAway(piece))).toEqual(
            expected.filter((piece) => !isLeftAway(piece)),
          );
        },
      ),
      200,
    );
    expect(whole).toBeGreaterThan(300);
  });

  test("random bytes of any length come as they were", () => {
    const { batch } = batchOf();
    const fill = batchKernel(batch);
    check(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 40 }), (all) => {
        const actual: string[] = [];
        batch.take(
          fill(from(PEER, all)),
          (bytes, end) => actual.push(bytes.subarray(0, end).toHex()),
          (header, offset, sealed, start) => {
            const length = readLength(header, offset);
            const ahead = Buffer.from(header.subarray(offset, offset + HEADER_BYTES)).toString("hex");
            actual.push(ahead + sealed.subarray(start, start + length).toHex());
          },
        );
        expect(actual).toEqual(all.map((bytes) => bytes.toHex()));
      }),
      300,
    );
  });
});
