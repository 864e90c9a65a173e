/** Sorting by session: nothing lost, nothing changed, order kept within a session, packets of one session side by side. */

import { expect, test } from "bun:test";
import fc from "fast-check";
import { PacketSorter } from "../../lib/packet_sorter.ts";

interface Taken {
  readonly owner: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly start: number;
  readonly end: number;
}

const MAX_PACKETS = 16;
const MAX_BYTES = 4_096;

/** One read: packets back to back, each of its owner, with bytes of its own. */
function readOf(packets: readonly { owner: string; length: number }[]) {
  const bytes = new Uint8Array(packets.reduce((sum, { length }) => sum + length, 0));
  let end = 0;
  const places = packets.map(({ owner, length }, index) => {
    bytes.fill(index + 1, end, end + length);
    end += length;
    return { owner, start: end - length, end };
  });
  return { bytes, places };
}

function sort(sorter: PacketSorter<string>, { bytes, places }: ReturnType<typeof readOf>): Taken[] {
  const taken: Taken[] = [];
  const drain = () =>
    sorter.drain(bytes, (owner, at, start, end) => taken.push({ owner, bytes: at, start, end }));
  for (const { owner, start, end } of places) {
    if (!sorter.hasRoom(end - start)) drain();
    sorter.add(owner, start, end);
  }
  drain();
  return taken;
}

const content = ({ bytes, start, end }: Taken) => [...bytes.subarray(start, end)];
const areNeighbours = (one: Taken, next: Taken) => one.bytes === next.bytes && one.end === next.start;

test("PacketSorter: packets that take turns are brought together", () => {
  const read = readOf(["a", "b", "a", "b", "c", "a"].map((owner) => ({ owner, length: 60 })));
  const taken = sort(new PacketSorter(MAX_PACKETS, MAX_BYTES), read);
  expect(taken.map(({ owner }) => owner).join("")).toBe("aaabbc");
  expect(taken.map((packet) => content(packet)[0])).toEqual([1, 3, 6, 2, 4, 5]);
  expect(areNeighbours(taken[0]!, taken[1]!) && areNeighbours(taken[1]!, taken[2]!)).toBe(true);
  expect(areNeighbours(taken[3]!, taken[4]!)).toBe(true);
});

test("PacketSorter: packets that stand together are not copied, nor is one alone", () => {
  const sorter = new PacketSorter<string>(MAX_PACKETS, MAX_BYTES);
  const sorted = readOf(["a", "a", "b", "b"].map((owner) => ({ owner, length: 60 })));
  expect(sort(sorter, sorted).every(({ bytes }) => bytes === sorted.bytes)).toBe(true);
  const mixed = readOf(["a", "b", "a"].map((owner) => ({ owner, length: 60 })));
  expect(sort(sorter, mixed).map(({ bytes }) => bytes === mixed.bytes)).toEqual([false, false, true]);
});

test("PacketSorter: every mixture arrives whole and in the order of each session", () => {
  const packet = fc.record({
    owner: fc.constantFrom("a", "b", "c", "d"),
    length: fc.integer({ min: 1, max: 600 }),
  });
  const sorter = new PacketSorter<string>(MAX_PACKETS, MAX_BYTES);
  fc.assert(
    fc.property(fc.array(packet, { maxLength: MAX_PACKETS }), (packets) => {
      const total = packets.reduce((sum, { length }) => sum + length, 0);
      fc.pre(total <= MAX_BYTES);
      const taken = sort(sorter, readOf(packets));
      for (const owner of ["a", "b", "c", "d"]) {
        const sent = packets.flatMap(({ owner: whose, length }, index) =>
          whose === owner ? [Array<number>(length).fill(index + 1)] : [],
        );
        const own = taken.filter((one) => one.owner === owner);
        expect(own.map(content)).toEqual(sent);
        // what is to become one record stands in one place
        for (let i = 1; i < own.length; i++) expect(areNeighbours(own[i - 1]!, own[i]!)).toBe(true);
      }
      expect(new Set(taken.map(({ owner }) => owner)).size).toBe(
        new Set(packets.map(({ owner }) => owner)).size,
      );
    }),
  );
});

test("PacketSorter: says when it has no room, in packets and in bytes", () => {
  const sorter = new PacketSorter<string>(2, 100);
  expect(sorter.hasRoom(101)).toBe(false);
  sorter.add("a", 0, 60);
  expect(sorter.hasRoom(41)).toBe(false);
  expect(sorter.hasRoom(40)).toBe(true);
  sorter.add("b", 60, 70);
  expect(sorter.hasRoom(1)).toBe(false);
  const taken: string[] = [];
  sorter.drain(new Uint8Array(100), (owner) => taken.push(owner));
  expect(taken).toEqual(["a", "b"]);
  expect(sorter.hasRoom(100)).toBe(true);
  sorter.drain(new Uint8Array(100), (owner) => taken.push(owner));
  expect(taken).toEqual(["a", "b"]);
});
