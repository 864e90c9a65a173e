import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { addressFromBytes } from "../../lib/address.ts";
import { UsageError } from "../../lib/errors.ts";
import { AF_INET, AF_INET6, decodeSockaddr, encodeSockaddr } from "../../lib/sockaddr_linux.ts";
import { check } from "../support/property.ts";

describe("encodeSockaddr", () => {
  test("IPv4 on an IPv4 socket: struct sockaddr_in", () => {
    const bytes = encodeSockaddr(AF_INET, { host: "192.0.2.1", port: 51820 });
    expect(bytes.toHex()).toBe("0200ca6cc00002010000000000000000");
  });

  test("IPv4 on an IPv6 socket: a mapped address in struct sockaddr_in6", () => {
    const bytes = encodeSockaddr(AF_INET6, { host: "192.0.2.1", port: 51820 });
    expect(bytes.toHex()).toBe(`0a00ca6c00000000${"00".repeat(10)}ffffc000020100000000`);
  });

  test("a link-local address keeps its interface", () => {
    const bytes = encodeSockaddr(AF_INET6, { host: "fe80::1%3", port: 1 });
    expect(bytes.toHex()).toBe(`0a00000100000000fe80${"00".repeat(13)}0103000000`);
    expect(decodeSockaddr(bytes)).toEqual({ host: "fe80::1%3", port: 1 });
  });

  test("a name is an error that names it", () => {
    expect(() => encodeSockaddr(AF_INET, { host: "vpn.example", port: 1 })).toThrow(UsageError);
    expect(() => encodeSockaddr(AF_INET, { host: "vpn.example", port: 1 })).toThrow('"vpn.example"');
  });
});

test("decodeSockaddr(): gives back every address and port", () => {
  const family4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
  // not IPv4-mapped, which reads as IPv4
  const family6 = fc.uint8Array({ minLength: 16, maxLength: 16 }).filter((bytes) => bytes[0] !== 0);
  check(
    fc.property(fc.oneof(family4, family6), fc.nat(65_535), (address, port) => {
      const peer = { host: addressFromBytes(address).text, port };
      expect(decodeSockaddr(encodeSockaddr(AF_INET6, peer))).toEqual(peer);
      if (address.length === 4) expect(decodeSockaddr(encodeSockaddr(AF_INET, peer))).toEqual(peer);
    }),
  );
});
