/** The keep-alive message: golden bytes, round trip, every truncated prefix, random bytes. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { decodeKeepalive, encodeKeepalive, type Keepalive, KEEPALIVE_BYTES } from "../../lib/keepalive.ts";
import { bytes, check } from "../support/property.ts";

const MESSAGE: Keepalive = {
  replyWanted: true,
  sentAtUs: 0x01020304,
  echo: { sentAtUs: 0xfffefdfc, delayUs: 5 },
  recordsSeen: 2 ** 33 + 1,
  recordsExpected: 2 ** 33 + 2,
  recordsRestored: 2 ** 32 + 3,
  overloaded: false,
  probe: false,
  newPath: false,
};
const GOLDEN =
  "00000003" +
  "01020304" +
  "fffefdfc" +
  "00000005" +
  "0000000200000001" +
  "0000000200000002" +
  "0000000100000003";

const microseconds = fc.nat(0xffff_ffff);
const message: fc.Arbitrary<Keepalive> = fc
  .array(fc.maxSafeNat(), { minLength: 3, maxLength: 3 })
  .chain((counts) => {
    const [restored, seen, expected] = counts.toSorted((a, b) => a - b) as [number, number, number];
    return fc.record({
      replyWanted: fc.boolean(),
      sentAtUs: microseconds,
      echo: fc.option(fc.record({ sentAtUs: microseconds, delayUs: microseconds })),
      recordsSeen: fc.constant(seen),
      recordsExpected: fc.constant(expected),
      recordsRestored: fc.constant(restored),
      overloaded: fc.boolean(),
      probe: fc.boolean(),
      newPath: fc.boolean(),
    });
  });

describe("encodeKeepalive", () => {
  test("golden bytes", () => {
    expect(encodeKeepalive(MESSAGE).toHex()).toBe(GOLDEN);
    expect(encodeKeepalive({ ...MESSAGE, replyWanted: false, echo: null }).toHex()).toBe(
      "00000000" + "01020304" + "00".repeat(8) + GOLDEN.slice(32),
    );
    expect(encodeKeepalive({ ...MESSAGE, overloaded: true }).toHex()).toBe("00000007" + GOLDEN.slice(8));
    expect(encodeKeepalive({ ...MESSAGE, probe: true }).toHex()).toBe("0000000b" + GOLDEN.slice(8));
    expect(encodeKeepalive({ ...MESSAGE, newPath: true }).toHex()).toBe("00000013" + GOLDEN.slice(8));
  });
});

describe("decodeKeepalive", () => {
  test("reads golden bytes", () => {
    expect(decodeKeepalive(Uint8Array.fromHex(GOLDEN))).toEqual(MESSAGE);
  });

  test("a message that does not say overloaded says that it is not", () => {
    const { overloaded: _, ...without } = MESSAGE;
    expect(decodeKeepalive(encodeKeepalive(without))?.overloaded).toBe(false);
  });

  test("round trip", () => {
    check(
      fc.property(message, (value) => expect(decodeKeepalive(encodeKeepalive(value))).toEqual(value)),
      500,
    );
  });

  test("refuses every truncated prefix and anything longer", () => {
    const whole = encodeKeepalive(MESSAGE);
    for (let end = 0; end < whole.length; end++) expect(decodeKeepalive(whole.subarray(0, end))).toBeNull();
    expect(decodeKeepalive(Uint8Array.of(...whole, 0))).toBeNull();
  });

  test("refuses unknown flags, more seen than sent, more restored than seen, and counts that are not exact", () => {
    const change = (at: number, value: number) => {
      const data = Uint8Array.fromHex(GOLDEN);
      data[at] = value;
      return decodeKeepalive(data);
    };
    expect(change(3, 32 | 3)).toBeNull();
    expect(change(0, 0x80)).toBeNull();
    expect(change(23, 3)).toBeNull();
    expect(change(35, 3)).toBeNull();
    expect(change(24, 0x7f)).toBeNull();
  });

  test("random bytes: null, or a message that encodes to the same bytes but for an unused echo", () => {
    const near = bytes(KEEPALIVE_BYTES, KEEPALIVE_BYTES).map((data) => {
      data.fill(0, 0, 3);
      data[3]! &= 7;
      data.fill(0, 16, 22);
      data.fill(0, 24, 27);
      data.fill(0, 32, 39);
      return data;
    });
    check(
      fc.property(fc.oneof(bytes(0, 48), near), (data) => {
        const read = decodeKeepalive(data);
        if (read === null) return;
        const again = encodeKeepalive(read);
        if (read.echo === null) data.fill(0, 8, 16);
        expect(again.toHex()).toBe(data.toHex());
      }),
      2000,
    );
  });
});
