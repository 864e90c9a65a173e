/** The path probe: golden bytes, round trip, every truncated prefix, random bytes. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HEADER_BYTES, TAG_BYTES } from "../../lib/limits.ts";
import { decodeProbe, encodeProbe, MIN_PROBE_BYTES, type ProbeMessage } from "../../lib/probe_message.ts";
import { bytes, check } from "../support/property.ts";

const PROBE: ProbeMessage = { kind: "probe", number: 0x01020304, datagramBytes: 48 };
const PROBE_HEX = "01000030" + "01020304" + "00".repeat(8);
const ACK: ProbeMessage = { kind: "ack", number: 0xfffefdfc, datagramBytes: 1452 };
const ACK_HEX = "020005ac" + "fffefdfc";

const message: fc.Arbitrary<ProbeMessage> = fc.record({
  kind: fc.constantFrom("probe", "ack"),
  number: fc.nat(0xffff_ffff),
  datagramBytes: fc.integer({ min: MIN_PROBE_BYTES, max: 9000 }),
});

describe("encodeProbe", () => {
  test("golden bytes", () => {
    expect(encodeProbe(PROBE).toHex()).toBe(PROBE_HEX);
    expect(encodeProbe(ACK).toHex()).toBe(ACK_HEX);
  });

  test("a sealed probe makes a datagram of exactly the size asked for", () => {
    check(
      fc.property(message, (value) => {
        const sealed = HEADER_BYTES + encodeProbe({ ...value, kind: "probe" }).length + TAG_BYTES;
        expect(sealed).toBe(value.datagramBytes);
      }),
    );
  });
});

describe("decodeProbe", () => {
  test("reads golden bytes", () => {
    expect(decodeProbe(Uint8Array.fromHex(PROBE_HEX))).toEqual(PROBE);
    expect(decodeProbe(Uint8Array.fromHex(ACK_HEX))).toEqual(ACK);
  });

  test("round trip", () => {
    check(fc.property(message, (value) => expect(decodeProbe(encodeProbe(value))).toEqual(value)));
  });

  test.each([PROBE, ACK])("refuses every truncated prefix and anything longer", (value) => {
    const whole = encodeProbe(value);
    for (let end = 0; end < whole.length; end++) expect(decodeProbe(whole.subarray(0, end))).toBeNull();
    expect(decodeProbe(Uint8Array.of(...whole, 0))).toBeNull();
  });

  test("refuses unknown kinds, a reserved byte that is set and the acknowledgement of an impossible size", () => {
    const change = (at: number, value: number) => {
      const data = Uint8Array.fromHex(ACK_HEX);
      data[at] = value;
      return decodeProbe(data);
    };
    expect(change(0, 0)).toBeNull();
    expect(change(0, 3)).toBeNull();
    expect(change(1, 1)).toBeNull();
    expect(change(2, 0)?.datagramBytes).toBe(0xac);
    expect(decodeProbe(Uint8Array.fromHex("02000027fffefdfc"))).toBeNull();
  });

  test("does not look at the padding", () => {
    const data = Uint8Array.fromHex(PROBE_HEX);
    data[15] = 7;
    expect(decodeProbe(data)).toEqual(PROBE);
  });

  test("random bytes: null, or a message that encodes to the same bytes but for the padding", () => {
    const near = bytes(8, 60).map((data) => {
      data[0] = (data[0]! % 2) + 1;
      data.fill(0, 1, 3);
      data[3] = data.length + 32;
      return data;
    });
    check(
      fc.property(fc.oneof(bytes(0, 60), near), (data) => {
        const read = decodeProbe(data);
        if (read !== null) expect(encodeProbe(read).subarray(0, 8).toHex()).toBe(data.subarray(0, 8).toHex());
      }),
      2000,
    );
  });
});
