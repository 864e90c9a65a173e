import { expect, test } from "bun:test";
import fc from "fast-check";
import { concatBytes } from "../../lib/bytes.ts";
import {
  encodeFrame,
  type Frame,
  FRAME_HEADER_BYTES,
  FrameDecoder,
  writeRecordFrameHeader,
} from "../../lib/control_frame.ts";
import { ProtocolError } from "../../lib/errors.ts";
import { HEADER_BYTES, MAX_CONTROL_MESSAGE_BYTES, MAX_RECORD_BYTES } from "../../lib/limits.ts";
import { bytes, check } from "../support/property.ts";

const texts = (frames: readonly Frame[]): string[] =>
  frames.map(({ kind, body }) => `${kind} ${body.toHex()}`);

/** A frame of either kind. */
function encode({ kind, body }: Frame): Uint8Array {
  if (kind === "message") return encodeFrame(body);
  const prefix = new Uint8Array(FRAME_HEADER_BYTES);
  writeRecordFrameHeader(prefix, 0, body.length);
  return concatBytes(prefix, body);
}

const anyFrame: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({ kind: fc.constant("message" as const), body: bytes(1, 40) }),
  fc.record({ kind: fc.constant("record" as const), body: bytes(33, 80) }),
);

test("encodeFrame() puts a big-endian length in front", () => {
  expect(encodeFrame(Uint8Array.from([7, 8, 9])).toHex()).toBe("00000003070809");
});

test("encodeFrame() refuses empty and over-long messages", () => {
  expect(() => encodeFrame(new Uint8Array(0))).toThrow(ProtocolError);
  expect(() => encodeFrame(new Uint8Array(MAX_CONTROL_MESSAGE_BYTES + 1))).toThrow(ProtocolError);
  expect(encodeFrame(new Uint8Array(MAX_CONTROL_MESSAGE_BYTES)).length).toBe(MAX_CONTROL_MESSAGE_BYTES + 4);
});

test("FrameDecoder gives the same messages and records however the stream is cut", () => {
  const frames = fc.array(anyFrame, { minLength: 1, maxLength: 6 });
  check(
    fc.property(frames, fc.array(fc.integer({ min: 1, max: 50 })), (sent, cuts) => {
      const stream = concatBytes(...sent.map(encode));
      const decoder = new FrameDecoder();
      const got: Frame[] = [];
      let offset = 0;
      for (const cut of [...cuts, stream.length]) {
        got.push(...decoder.push(stream.subarray(offset, offset + cut)));
        offset += cut;
      }
      expect(texts(got)).toEqual(texts(sent));
      expect(decoder.isAtBoundary).toBe(true);
    }),
  );
});

test("FrameDecoder gives nothing for any true prefix of a message", () => {
  const frame = encodeFrame(Uint8Array.from([1, 2, 3, 4, 5]));
  for (let length = 0; length < frame.length; length++) {
    const decoder = new FrameDecoder();
    expect(decoder.push(frame.subarray(0, length))).toEqual([]);
    expect(decoder.isAtBoundary).toBe(length === 0);
  }
});

test("FrameDecoder refuses a length of zero and one over the limit by the prefix alone", () => {
  // records: empty, one byte too short, one too long
  const records = ["80000000", "80000020", "8000fbf4", "ffffffff"];
  for (const prefix of ["00000000", "00010001", "7fffffff", ...records]) {
    expect(() => new FrameDecoder().push(Uint8Array.fromHex(prefix))).toThrow(ProtocolError);
  }
});

test("FrameDecoder takes the largest record", () => {
  const body = new Uint8Array(HEADER_BYTES + MAX_RECORD_BYTES);
  expect(new FrameDecoder().push(encode({ kind: "record", body }))).toHaveLength(1);
});
