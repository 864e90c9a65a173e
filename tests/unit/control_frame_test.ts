import { expect, test } from "bun:test";
import fc from "fast-check";
import { encodeFrame, FrameDecoder } from "../../lib/control_frame.ts";
import { concatBytes } from "../../lib/bytes.ts";
import { ProtocolError } from "../../lib/errors.ts";
import { MAX_CONTROL_MESSAGE_BYTES } from "../../lib/limits.ts";
import { bytes, check } from "../support/property.ts";

const hex = (bodies: readonly Uint8Array[]): string[] => bodies.map((body) => body.toHex());

test("encodeFrame() puts a big-endian length in front", () => {
  expect(encodeFrame(Uint8Array.from([7, 8, 9])).toHex()).toBe("00000003070809");
});

test("encodeFrame() refuses empty and over-long messages", () => {
  expect(() => encodeFrame(new Uint8Array(0))).toThrow(ProtocolError);
  expect(() => encodeFrame(new Uint8Array(MAX_CONTROL_MESSAGE_BYTES + 1))).toThrow(ProtocolError);
  expect(encodeFrame(new Uint8Array(MAX_CONTROL_MESSAGE_BYTES)).length).toBe(MAX_CONTROL_MESSAGE_BYTES + 4);
});

test("FrameDecoder gives the same messages however the stream is cut", () => {
  const bodies = fc.array(bytes(1, 40), { minLength: 1, maxLength: 6 });
  check(
    fc.property(bodies, fc.array(fc.integer({ min: 1, max: 50 })), (sent, cuts) => {
      const stream = concatBytes(...sent.map(encodeFrame));
      const decoder = new FrameDecoder();
      const got: Uint8Array[] = [];
      let offset = 0;
      for (const cut of [...cuts, stream.length]) {
        got.push(...decoder.push(stream.subarray(offset, offset + cut)));
        offset += cut;
      }
      expect(hex(got)).toEqual(hex(sent));
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
  for (const prefix of ["00000000", "00010001", "ffffffff"]) {
    expect(() => new FrameDecoder().push(Uint8Array.fromHex(prefix))).toThrow(ProtocolError);
  }
});
