/** Parity through a whole data plane: on a path that loses datagrams, joined by the kernel, and under attack. */

import { describe, expect, test } from "bun:test";
import { decodeKeepalive } from "../../lib/keepalive.ts";
import { HEADER_BYTES, REASSEMBLY_TIMEOUT_MS, TAG_BYTES } from "../../lib/limits.ts";
import { writeParity } from "../../lib/parity.ts";
import {
  datagramSize,
  pieceSize,
  readParityGroups,
  readPiece,
  readPieces,
  readSequence,
  readType,
  RecordType,
  writeDatagrams,
  writeHeader,
} from "../../lib/protocol.ts";
import {
  CLIENT_HOST,
  connectedPairs,
  type DataPlanePair,
  SERVER_HOST,
  SESSION_ID,
  until,
} from "../support/data_plane_pair.ts";
import { epochKeys } from "../support/epoch_keys.ts";
import { buildPacket, withVnet } from "../support/inner_packet.ts";
import { randomSource } from "../support/property.ts";
import { openRecord, sealRecord } from "../support/seal.ts";

const connected = connectedPairs();
const PORT = 51_820;

const packets = new Map<number, Uint8Array<ArrayBuffer>>();

/** Packet `number` of the client, 1,400 bytes. */
function packet(number: number): Uint8Array<ArrayBuffer> {
  const made = packets.get(number) ?? makePacket(number);
  packets.set(number, made);
  return made;
}

function makePacket(number: number): Uint8Array<ArrayBuffer> {
  const payload = new Uint8Array(1_372).map((_, i) => i * 7 + number);
  new DataView(payload.buffer).setUint32(0, number);
  const [source, destination] = ["10.8.0.2", "10.8.0.1"];
  return buildPacket({ version: 4, protocol: "udp", source, destination, payload });
}

/** The number of a packet that the server wrote, which must be as it was sent. */
function numberOf(written: Uint8Array): number {
  const number = new DataView(written.buffer, written.byteOffset).getUint32(10 + 28);
  expect(Buffer.compare(written, withVnet(packet(number)))).toBe(0);
  return number;
}

/** The datagrams of the client's record `sequence` with so many packets, parities ahead. */
async function craft(sequence: number, packets: readonly number[], pieces: number, groups: number) {
  const plaintext = Uint8Array.from(Buffer.concat(packets.map(packet)));
  const length = plaintext.length + TAG_BYTES;
  const { client } = await epochKeys(0);
  const header = new Uint8Array(HEADER_BYTES);
  writeHeader(header, 0, RecordType.data, length, SESSION_ID, 0, pieces, sequence);
  const body = new Uint8Array(await sealRecord(client.sendKey, client.sendSalt, header, 0, plaintext));
  const parity = new Uint8Array(groups * pieceSize(length, pieces));
  writeParity(parity, body, null, pieces, groups);
  const out = new Uint8Array(length + parity.length + (pieces + groups) * HEADER_BYTES);
  writeDatagrams(out, header, body, null, groups === 0 ? null : parity, pieces);
  const datagrams: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 0; at < out.length;) {
    const size = datagramSize(out, at, out.length);
    datagrams.push(out.slice(at, at + size));
    at += size;
  }
  return { ahead: datagrams.slice(0, groups), datagrams: datagrams.slice(groups) };
}

/** Hands over what the kernel joined. */
function deliver(
  pair: DataPlanePair,
  datagrams: readonly Uint8Array[],
  host = CLIENT_HOST,
  port = PORT,
): void {
  pair.server.udp.deliver(Uint8Array.from(Buffer.concat(datagrams)), host, port);
}

/** How many records the server says that it restored. */
async function restoredAt(pair: DataPlanePair): Promise<number> {
  const isKeepalive = ({ from, bytes }: DataPlanePair["wire"][number]): boolean =>
    from === SERVER_HOST && readType(bytes, 0) === RecordType.keepalive;
  pair.wire.length = 0;
  pair.clock.nowMs += 10_000;
  pair.server.plane.tick();
  await until(() => pair.wire.some(isKeepalive));
  const { server } = await epochKeys(0);
  const { bytes } = pair.wire.findLast(isKeepalive)!;
  const sealed = bytes.slice(HEADER_BYTES);
  const plaintext = await openRecord(server.sendKey, server.sendSalt, bytes, 0, sealed);
  return decodeKeepalive(new Uint8Array(plaintext!))!.recordsRestored;
}

/** A path from client to server on which datagrams are lost apart from each pair. */
class LossyWire {
  loss = 0;
  /** By sequence of a record that lost a datagram: of each group how many, and whether a piece is among them. */
  readonly #hit = new Map<number, { readonly lost: Map<number, number>; groups: number; piece: boolean }>();
  readonly #groups = new Map<number, number>();

  constructor(pair: DataPlanePair, seed: number) {
    const random = randomSource(seed);
    const { observe } = pair.network;
    pair.network.observe = (datagram, from) => {
      observe(datagram, from);
      if (from.host === SERVER_HOST) return datagram;
      const sequence = readSequence(datagram, 0);
      const groups = readParityGroups(datagram, 0);
      if (groups > 0) this.#groups.set(sequence, groups);
      if (random(1e6) >= this.loss * 1e6) return datagram;
      this.#lose(sequence, datagram);
      return null;
    };
  }

  #lose(sequence: number, datagram: Uint8Array): void {
    const parityGroups = readParityGroups(datagram, 0);
    const hit = this.#hit.get(sequence) ?? { lost: new Map<number, number>(), groups: 0, piece: false };
    this.#hit.set(sequence, hit);
    hit.groups = this.#groups.get(sequence) ?? 0;
    const group =
      parityGroups > 0 ? readPiece(datagram, 0) & 7 : readPiece(datagram, 0) % Math.max(1, hit.groups);
    hit.lost.set(group, (hit.lost.get(group) ?? 0) + 1);
    if (parityGroups === 0) hit.piece = true;
  }

  /** Records that lost a piece, and those of them that parity cannot restore; to be counted anew. */
  take(): { hit: number; lost: number } {
    const hit = [...this.#hit.values()].filter(({ piece }) => piece);
    const lost = hit.filter((record) =>
      [...record.lost.values()].some((n) => n > Math.min(1, record.groups)),
    );
    this.#hit.clear();
    return { hit: hit.length, lost: lost.length };
  }
}

describe("parity on a lossy path", () => {
  const ROUNDS = 60;

  test.each([0.01, 0.03])(
    "single losses of %f: once it is on nearly every record arrives, in order and unchanged",
    async (loss) => {
      const pair = await connected();
      const wire = new LossyWire(pair, 7);
      let sent = 0;
      const round = async (): Promise<number> => {
        wire.loss = loss;
        const { txPackets } = pair.stats(pair.client);
        for (let i = 0; i < 150; i++) pair.client.tun.inject(withVnet(packet(sent++)));
        await until(() => pair.stats(pair.client).txPackets >= txPackets + 150);
        await Bun.sleep(3);
        wire.loss = 0;
        await pair.settle();
        pair.clock.nowMs += 100;
        pair.server.plane.tick();
        pair.client.plane.tick();
        await pair.settle();
        const arrived = pair.server.tun.written.splice(0).map(numberOf);
        expect(arrived).toEqual(arrived.toSorted((a, b) => a - b));
        return new Set(arrived).size;
      };
      // the path is learnt
      for (let i = 0; i < 10; i++) await round();
      wire.take();
      pair.wire.length = 0;
      let arrived = 0;
      // how records are cut depends on who is faster: so many rounds that chance does not decide
      for (let i = 0; i < ROUNDS; i++) arrived += await round();
      const { hit, lost } = wire.take();
      expect(hit).toBeGreaterThan(10);
      expect(lost / hit).toBeLessThan(0.25);
      expect(arrived / (ROUNDS * 150)).toBeGreaterThan(loss < 0.02 ? 0.97 : 0.94);
      expect(pair.drops(pair.server)["decrypt-failed"] ?? 0).toBe(0);
      expect(pair.drops(pair.server)["record-replayed"] ?? 0).toBe(0);
      expect(await restoredAt(pair)).toBeGreaterThan((hit - lost) * 0.9);
    },
    30_000,
  );

  test("a path that loses nothing sees no parity", async () => {
    const pair = await connected();
    await pair.proveCleanPath();
    expect(pair.wire.some(({ bytes }) => readPieces(bytes, 0) > 1)).toBe(true);
    expect(pair.wire.every(({ bytes }) => readParityGroups(bytes, 0) === 0)).toBe(true);
    // some ten thousand packets: a second, on a busy machine several
  }, 30_000);
});

describe("records behind their parities, joined by the kernel", () => {
  test.each([1, 2, 3])(
    "%i parities: opened without being restored, also without the first or the last",
    async (groups) => {
      const pair = await connected();
      const [a, b, c, d] = await Promise.all(
        [1_000, 1_001, 1_002, 1_003].map((n, i) => craft(n, [2 * i, 2 * i + 1], 4, groups)),
      );
      deliver(pair, [...a!.ahead, ...a!.datagrams]);
      deliver(pair, [...b!.ahead.slice(1), ...b!.datagrams]);
      deliver(pair, [...c!.ahead.slice(0, -1), ...c!.datagrams]);
      // parities in a buffer of their own
      deliver(pair, d!.ahead);
      deliver(pair, d!.datagrams);
      await pair.settle();
      expect(pair.server.tun.written.map(numberOf)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
      expect(await restoredAt(pair)).toBe(0);
      pair.clock.nowMs += REASSEMBLY_TIMEOUT_MS;
      pair.server.plane.tick();
      // nothing is left of the parities that came before their record was known to be whole
      expect(pair.drops(pair.server)).toEqual({});
    },
  );

  test("several in one buffer, a piece of one lost: all arrive, in order", async () => {
    const all = await Promise.all([1_000, 1_001, 1_002].map((n, i) => craft(n, [2 * i, 2 * i + 1], 4, 1)));
    for (let lost = 0; lost < 4; lost++) {
      const pair = await connected();
      const parts = all.map(({ ahead, datagrams }, i) => [
        ...ahead,
        ...datagrams.filter((_, n) => i !== 1 || n !== lost),
      ]);
      deliver(pair, parts.flat());
      await pair.settle();
      expect(pair.server.tun.written.map(numberOf)).toEqual([0, 1, 2, 3, 4, 5]);
      expect(await restoredAt(pair)).toBe(1);
      expect(pair.drops(pair.server)).toEqual({});
    }
  });

  test("the last piece of the last record lost: restored when nothing more waits", async () => {
    const pair = await connected();
    const { ahead, datagrams } = await craft(1_000, [0, 1], 4, 1);
    deliver(pair, [...ahead, ...datagrams.slice(0, 3)]);
    await until(() => pair.server.tun.written.length === 2);
    expect(pair.server.tun.written.map(numberOf)).toEqual([0, 1]);
    // the late piece begins nothing, and is no replay of a record
    deliver(pair, [datagrams[3]!]);
    await pair.settle();
    expect(pair.drops(pair.server)).toEqual({ "record-replayed": 1 });
    expect(await restoredAt(pair)).toBe(1);
  });
});

describe("parity under attack", () => {
  const STRANGER = ["203.0.113.9", 4444] as const;

  /** A well-formed datagram of one piece with the client's session, that nobody has the key for. */
  function forged(sequence: number): Uint8Array {
    const datagram = new Uint8Array(HEADER_BYTES + 100);
    writeHeader(datagram, 0, RecordType.data, 100, SESSION_ID, 0, 1, sequence);
    return datagram;
  }

  test("a stranger's datagram that triggers a restore does not move the endpoint; the record's own sender does", async () => {
    for (const [host, port] of [
      [CLIENT_HOST, PORT],
      ["203.0.113.77", 5555],
    ] as const) {
      const pair = await connected();
      const { ahead, datagrams } = await craft(1_000, [0, 1], 4, 1);
      deliver(pair, [...ahead, ...datagrams.slice(0, 3)], host, port);
      deliver(pair, [forged(2_000)], ...STRANGER);
      await until(() => pair.server.tun.written.length === 2);
      expect(pair.stats(pair.server).endpoint).toEqual({ host, port });
      await until(() => pair.drops(pair.server)["decrypt-failed"] === 1);
    }
  });

  test("a forged whole record takes no genuine pieces of its number away", async () => {
    const pair = await connected();
    const { ahead, datagrams } = await craft(1_000, [0, 1], 4, 1);
    deliver(pair, [...ahead, ...datagrams.slice(0, 2)]);
    deliver(pair, [forged(1_000)], ...STRANGER);
    deliver(pair, datagrams.slice(3));
    await until(() => pair.server.tun.written.length === 2);
    expect(pair.server.tun.written.map(numberOf)).toEqual([0, 1]);
    expect(pair.stats(pair.server).endpoint?.host).toBe(CLIENT_HOST);
  });

  test("a forged parity spoils at most its record, as a forged piece does; the next ones arrive", async () => {
    const pair = await connected();
    const [a, b] = await Promise.all([1_000, 1_001].map((n, i) => craft(n, [i], 2, 1)));
    const lie = a!.ahead[0]!.slice();
    lie[HEADER_BYTES]! ^= 1;
    deliver(pair, [lie, a!.datagrams[1]!]);
    deliver(pair, [...b!.ahead, b!.datagrams[1]!]);
    await until(() => pair.server.tun.written.length === 1);
    expect(pair.server.tun.written.map(numberOf)).toEqual([1]);
    expect(pair.drops(pair.server)).toEqual({ "decrypt-failed": 1 });
    expect(await restoredAt(pair)).toBe(1);
  });
});
