/**
 * Every decoder against hostile copies of real inputs; see `tests/corpus/README.md`.
 *
 * OMAIL_FUZZ_SECONDS gives each decoder that long instead of a fixed number of tries, and prints how many there were.
 */

import { describe, expect, test } from "bun:test";
import { corpusOf, type Decoder, DECODERS } from "../support/decoders.ts";
import { mutated } from "../support/mutate.ts";
import { randomSource } from "../support/property.ts";

const SECONDS = Number(process.env["OMAIL_FUZZ_SECONDS"] ?? 0);
const TRIES = 3_000;
/** Prefixes of long inputs are taken in steps, the first and the last ones one by one. */
const DENSE_PREFIXES = 400;
/** No input of this size may keep a decoder longer, in processor time: others may have the processor meanwhile. */
const SLOW_MS = 2_000;

/** Processor time of this process in milliseconds. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Gives an input to a decoder. @throws {Error} with the input in hexadecimal when the decoder broke */
async function feed(decoder: Decoder, bytes: Uint8Array<ArrayBuffer>): Promise<boolean> {
  const copy = Uint8Array.from(bytes);
  try {
    const startMs = cpuMs();
    const answer = decoder.decode(bytes);
    const taken = typeof answer === "boolean" ? answer : await answer;
    const tookMs = cpuMs() - startMs;
    if (tookMs > SLOW_MS) throw new Error(`took ${Math.round(tookMs)} ms`);
    return taken;
  } catch (error) {
    throw new Error(`${decoder.name} broke on ${copy.toHex().slice(0, 4_000)}`, { cause: error });
  }
}

/** Mutated inputs for a time or a number of tries. @returns how many there were */
async function fuzz(decoder: Decoder): Promise<number> {
  const corpus = corpusOf(decoder.name).map(({ bytes }) => bytes);
  const random = randomSource(Number(process.env["OMAIL_SEED"] ?? 1) + Bun.hash.crc32(decoder.name));
  const endMs = performance.now() + SECONDS * 1000;
  let tries = 0;
  for (; SECONDS > 0 ? performance.now() < endMs : tries < TRIES; tries++) {
    await feed(decoder, mutated(corpus, random));
    // a long run lets the collector and the signals have their turn
    if (tries % 10_000 === 9_999) await Bun.sleep(0);
  }
  return tries;
}

describe.each(DECODERS.map((decoder) => [decoder.name, decoder] as const))("%s", (_name, decoder) => {
  test("takes every real input", async () => {
    const files = corpusOf(decoder.name);
    expect(files.length).toBeGreaterThan(0);
    for (const { name, bytes } of files) {
      if (name.startsWith("broken-")) await feed(decoder, bytes);
      else expect({ name, taken: await feed(decoder, bytes) }).toEqual({ name, taken: true });
    }
  });

  test("survives every truncated prefix", async () => {
    for (const { bytes } of corpusOf(decoder.name)) {
      const step = Math.max(1, Math.floor(bytes.length / DENSE_PREFIXES));
      for (let length = 0; length < bytes.length; length += length < 64 ? 1 : step) {
        await feed(decoder, bytes.slice(0, length));
      }
      await feed(decoder, bytes.slice(0, -1));
    }
  });

  test(
    "survives mutated inputs",
    async () => {
      const tries = await fuzz(decoder);
      if (SECONDS > 0) console.log(`${decoder.name}: ${tries} hostile inputs in ${SECONDS} s, none broke it`);
      expect(tries).toBeGreaterThan(0);
    },
    (SECONDS + 60) * 1000,
  );
});
