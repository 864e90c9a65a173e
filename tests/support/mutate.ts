/** Hostile copies of real inputs: bytes flipped, cut, doubled, moved, spliced with another input, or set to edge values. */

type Random = (below: number) => number;

/** Bytes and words that sit on the edges of length fields and of UTF-8, and characters that texts are made of. */
const EDGES: readonly (readonly number[])[] = [
  [0],
  [0xff],
  [0x7f],
  [0x80],
  [0, 0],
  [0xff, 0xff],
  [0x80, 0],
  [0, 0, 0, 0],
  [0xff, 0xff, 0xff, 0xff],
  [0x7f, 0xff, 0xff, 0xff],
  [0xc0, 0x80],
  [0xed, 0xa0, 0x80],
  [0xe2, 0x80, 0xae],
  ...[
    '"',
    "'",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    "=",
    ":",
    "\n",
    "\r\n",
    "\0",
    "-",
    "e308",
    "null",
    "1e999",
  ].map((text) => Array.from(Buffer.from(text))),
  Array.from(Buffer.from("__proto__")),
  Array.from(Buffer.from("9".repeat(40))),
];

const MUTATIONS: readonly ((bytes: Uint8Array, other: Uint8Array, random: Random) => Uint8Array)[] = [
  // one bit
  (bytes, _other, random) =>
    bytes.with(random(bytes.length), bytes[random(bytes.length)]! ^ (1 << random(8))),
  // one byte
  (bytes, _other, random) => bytes.with(random(bytes.length), random(256)),
  // an edge value over what is there, or between
  (bytes, _other, random) => replaced(bytes, random(bytes.length), EDGES[random(EDGES.length)]!, 0),
  (bytes, _other, random) => {
    const edge = EDGES[random(EDGES.length)]!;
    return replaced(bytes, random(bytes.length), edge, edge.length);
  },
  // an end cut off, a middle cut out
  (bytes, _other, random) => bytes.slice(0, random(bytes.length)),
  (bytes, _other, random) => replaced(bytes, random(bytes.length), [], 1 + random(16)),
  // a part doubled
  (bytes, _other, random) => {
    const from = random(bytes.length);
    return replaced(bytes, random(bytes.length), [...bytes.slice(from, from + 1 + random(64))], 0);
  },
  // another input's end behind this one's beginning
  (bytes, other, random) =>
    Buffer.concat([bytes.slice(0, random(bytes.length)), other.slice(random(other.length))]),
];

/** Most bytes of a mutated input, so that growing mutations end somewhere. */
const MAX_BYTES = 200_000;

function replaced(bytes: Uint8Array, at: number, by: readonly number[], length: number): Uint8Array {
  return Buffer.concat([bytes.slice(0, at), Uint8Array.from(by), bytes.slice(at + length)]);
}

/** One to four mutations of a random input of `corpus`. */
export function mutated(corpus: readonly Uint8Array[], random: Random): Uint8Array<ArrayBuffer> {
  let bytes = corpus[random(corpus.length)]!;
  for (let times = 1 + random(4); times > 0 && bytes.length > 0; times--) {
    const other = corpus[random(corpus.length)]!;
    bytes = MUTATIONS[random(MUTATIONS.length)]!(bytes, other, random).slice(0, MAX_BYTES);
  }
  return Uint8Array.from(bytes);
}
