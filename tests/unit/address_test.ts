/** Strict addresses, prefixes and endpoints. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  addressFromBytes,
  formatHostPort,
  networkOf,
  parseAddress,
  parseHostPort,
  parseNetwork,
  parsePrefix,
  prefixContains,
  unmapAddress,
} from "../../lib/address.ts";
import { UsageError } from "../../lib/errors.ts";
import { bytes, check } from "../support/property.ts";

const anyAddress = fc.oneof(bytes(4, 4), bytes(16, 16));

test("parseAddress refuses what only one of its two readers takes", () => {
  for (const text of ["2001::d%8::", "2001::%", "fe80::1%25eth0/"])
    expect(() => parseAddress(text)).toThrow(UsageError);
});

describe("parseAddress", () => {
  test.each([
    ["10.8.0.1", 4, "10.8.0.1"],
    ["255.255.255.255", 4, "255.255.255.255"],
    ["FD00:0:0:0:0:0:0:1", 6, "fd00::1"],
    ["::", 6, "::"],
    ["2001:db8:0:0:1:0:0:1", 6, "2001:db8::1:0:0:1"],
  ])("reads %s", (text, family, canonical) => {
    const address = parseAddress(text);
    expect({ family: address.family as number, text: address.text }).toEqual({ family, text: canonical });
    expect(address.bytes.length).toBe(family === 4 ? 4 : 16);
  });

  test.each([
    "",
    "1",
    "127.1",
    "010.0.0.1",
    "0x7f.1",
    "256.0.0.1",
    "1.2.3",
    "1.2.3.4.5",
    " 1.2.3.4",
    "1.2.3.4 ",
  ])('refuses "%s"', (text) => {
    expect(() => parseAddress(text)).toThrow(UsageError);
  });

  test.each(["fd00:::1", "12345::", "::1::", "fd00::1/64", "[::1]", "host", "1.2.3.4\n"])(
    'refuses "%s"',
    (text) => {
      expect(() => parseAddress(text)).toThrow(UsageError);
    },
  );

  test("names the value in its error", () => {
    expect(() => parseAddress("010.0.0.1")).toThrow('"010.0.0.1"');
  });

  test("round trip: any bytes to text and back", () => {
    check(
      fc.property(anyAddress, (data) => {
        const { text } = addressFromBytes(data);
        const again = parseAddress(text);
        expect([...again.bytes]).toEqual([...data]);
        expect(again.text).toBe(text);
      }),
    );
  });

  test("an IPv4-mapped IPv6 address stays IPv6", () => {
    expect(parseAddress("::ffff:10.0.0.1").family).toBe(6);
  });

  test("random text throws nothing but UsageError", () => {
    check(
      fc.property(
        fc.string({ maxLength: 40, unit: fc.constantFrom(..."0123456789abcdefx.:/[]% ") }),
        (text) => {
          for (const parse of [parseAddress, parsePrefix, parseNetwork, (t: string) => parseHostPort(t, 1)]) {
            try {
              parse(text);
            } catch (error) {
              expect(error).toBeInstanceOf(UsageError);
            }
          }
        },
      ),
      1000,
    );
  });
});

describe("parsePrefix", () => {
  test("keeps host bits, and takes a single address for the single host", () => {
    expect(parsePrefix("10.8.0.1/24").text).toBe("10.8.0.1/24");
    expect(parsePrefix("10.8.0.1").length).toBe(32);
    expect(parsePrefix("fd00::1").length).toBe(128);
  });

  test.each([
    "10.0.0.0/33",
    "10.0.0.0/",
    "10.0.0.0/-1",
    "10.0.0.0/08",
    "10.0.0.0/8 ",
    "10.0.0.0/1e1",
    "::/129",
  ])('refuses "%s"', (text) => {
    expect(() => parsePrefix(text)).toThrow(UsageError);
  });

  test("refuses a second slash", () => {
    expect(() => parsePrefix("10.0.0.0/8/8")).toThrow(UsageError);
  });
});

describe("parseNetwork", () => {
  test("refuses host bits and names the network that was meant", () => {
    expect(() => parseNetwork("10.8.0.1/24")).toThrow("10.8.0.0/24");
    expect(() => parseNetwork("fd00::1/64")).toThrow("fd00::/64");
  });

  test.each(["0.0.0.0/0", "::/0", "10.8.0.0/24", "10.8.0.1/32", "fd00::/8"])("accepts %s", (text) => {
    expect(parseNetwork(text).text).toBe(text);
  });
});

describe("networkOf, prefixContains", () => {
  test("agree with a comparison of bit strings", () => {
    const bits = (data: Uint8Array) => Array.from(data, (byte) => byte.toString(2).padStart(8, "0")).join("");
    const sameFamily = fc.oneof(
      fc.tuple(bytes(4, 4), bytes(4, 4), fc.nat(32)),
      fc.tuple(bytes(16, 16), bytes(16, 16), fc.nat(128)),
    );
    check(
      fc.property(sameFamily, fc.nat(16), ([a, b, length], shared) => {
        b.set(a.subarray(0, Math.min(shared, a.length)));
        const prefix = parsePrefix(`${addressFromBytes(a).text}/${length}`);
        const inside = bits(a).slice(0, length) === bits(b).slice(0, length);
        expect(prefixContains(prefix, addressFromBytes(b))).toBe(inside);
        const kept = bits(a)
          .slice(0, length)
          .padEnd(a.length * 8, "0");
        expect(bits(networkOf(prefix).address.bytes)).toBe(kept);
      }),
      500,
    );
  });

  test("prefixContains: the families never mix", () => {
    expect(prefixContains(parsePrefix("0.0.0.0/0"), parseAddress("::1"))).toBe(false);
    expect(prefixContains(parsePrefix("::/0"), parseAddress("10.0.0.1"))).toBe(false);
  });
});

describe("parseHostPort", () => {
  test.each([
    ["vpn.example.org:443", "vpn.example.org", 443],
    ["vpn.example.org", "vpn.example.org", 51820],
    [":51820", "", 51820],
    ["[fd00::1]:9", "fd00::1", 9],
    ["[fd00::1]", "fd00::1", 51820],
    ["fd00::1", "fd00::1", 51820],
    ["192.0.2.1:1", "192.0.2.1", 1],
  ])("reads %s", (text, host, port) => {
    expect(parseHostPort(text, 51820)).toEqual({ host, port });
  });

  test.each([
    "host:0",
    "host:65536",
    "host:99999999999999999999",
    "host:",
    "host:x",
    "[host]:1",
    "[::1",
    "fd00:::1",
  ])('refuses "%s"', (text) => {
    expect(() => parseHostPort(text, 51820)).toThrow(UsageError);
  });

  test("formatHostPort writes what parseHostPort reads", () => {
    check(
      fc.property(anyAddress, fc.integer({ min: 1, max: 65535 }), (data, port) => {
        const endpoint = { host: addressFromBytes(data).text, port };
        expect(parseHostPort(formatHostPort(endpoint), 1)).toEqual(endpoint);
      }),
    );
  });
});

describe("unmapAddress", () => {
  test("turns a mapped address into IPv4 and leaves every other text alone", () => {
    expect(unmapAddress("::ffff:192.0.2.1")).toBe("192.0.2.1");
    expect(unmapAddress("::ffff:c000:201")).toBe("::ffff:c000:201");
    expect(unmapAddress("fd00::1")).toBe("fd00::1");
    expect(unmapAddress("192.0.2.1")).toBe("192.0.2.1");
  });
});
