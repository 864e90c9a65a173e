/** The view of an inner packet: golden packets, every truncated prefix, random bytes. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  destinationOffset,
  ipHeaderBytes,
  ipProtocol,
  ipVersion,
  packetLength,
  sourceOffset,
} from "../../lib/packet.ts";
import { addressBytes, buildPacket, type PacketParts } from "../support/inner_packet.ts";
import { bytes, check } from "../support/property.ts";

/** An ICMP echo request of ping(8), 10.8.0.2 to 10.8.0.1, with 8 bytes of payload. */
const PING4 = Uint8Array.fromHex("45000024b1e04000400174ee0a0800020a08000108003b5a1234000100000000deadbeef");
/** An ICMPv6 echo request, fd00::2 to fd00::1, with 4 bytes of payload. */
const PING6 = Uint8Array.fromHex(
  "6000000000" +
    "0c3a40" +
    "fd000000000000000000000000000002" +
    "fd000000000000000000000000000001" +
    "80000000" +
    "1234000161626364",
);

const parts: fc.Arbitrary<PacketParts> = fc.record({
  version: fc.constantFrom(4, 6),
  protocol: fc.constantFrom("tcp", "udp"),
  ipOptions: fc.nat(10).map((words) => new Uint8Array(words * 4).fill(1)),
  payload: bytes(0, 100),
});

describe("packetLength", () => {
  test("golden packets", () => {
    expect(packetLength(PING4, 0, PING4.length)).toBe(36);
    expect(packetLength(PING6, 0, PING6.length)).toBe(52);
  });

  test("is the packet's own length, whatever stands around it", () => {
    check(
      fc.property(parts, fc.nat(9), fc.nat(9), (value, before, after) => {
        const packet = buildPacket(value);
        const buffer = Buffer.concat([new Uint8Array(before), packet, new Uint8Array(after).fill(0x45)]);
        expect(packetLength(buffer, before, buffer.length)).toBe(packet.length);
      }),
    );
  });

  test("refuses every truncated prefix", () => {
    for (const packet of [PING4, PING6]) {
      for (let end = 0; end < packet.length; end++) expect(packetLength(packet, 0, end)).toBe(0);
    }
  });

  test.each([
    ["IPv4 header length under 20 bytes", 0, 0x44],
    ["IP version 5", 0, 0x55],
    ["IP version 0", 0, 0x05],
    ["IPv4 total length under the header", 3, 19],
    ["IPv4 header length past the total length", 0, 0x4f],
  ])("refuses %s", (_name, at, value) => {
    const packet = PING4.slice();
    packet[at] = value;
    expect(packetLength(packet, 0, packet.length)).toBe(0);
  });

  test("random bytes: never throws, never reaches past the end", () => {
    const nearIp = fc
      .tuple(bytes(0, 90), fc.constantFrom(0x45, 0x46, 0x4f, 0x60, 0x6f))
      .map(([data, first]) => {
        if (data.length > 0) data[0] = first;
        if (data.length > 4) data[2] = data[4] = 0;
        return data;
      });
    check(
      fc.property(fc.oneof(bytes(0, 90), nearIp), (data) => {
        const length = packetLength(data, 0, data.length);
        expect(length === 0 || (length >= 20 && length <= data.length)).toBe(true);
        if (length > 0) expect(ipHeaderBytes(data, 0)).toBeLessThanOrEqual(length);
      }),
      2000,
    );
  });
});

describe("ipVersion, ipHeaderBytes, ipProtocol, sourceOffset, destinationOffset", () => {
  test("read golden packets", () => {
    expect([ipVersion(PING4, 0), ipHeaderBytes(PING4, 0), ipProtocol(PING4, 0)]).toEqual([4, 20, 1]);
    expect([ipVersion(PING6, 0), ipHeaderBytes(PING6, 0), ipProtocol(PING6, 0)]).toEqual([6, 40, 58]);
    const source6 = sourceOffset(PING6, 0);
    expect([...PING6.subarray(source6, source6 + 16)]).toEqual(addressBytes("fd00::2"));
    const destination4 = destinationOffset(PING4, 0);
    expect([...PING4.subarray(destination4, destination4 + 4)]).toEqual([10, 8, 0, 1]);
  });

  test("agree with the parts that a packet was built of, at any offset", () => {
    check(
      fc.property(parts, fc.nat(9), (value, at) => {
        const packet = Buffer.concat([new Uint8Array(at), buildPacket(value)]);
        const options = value.version === 4 ? (value.ipOptions?.length ?? 0) : 0;
        expect(ipHeaderBytes(packet, at)).toBe((value.version === 4 ? 20 : 40) + options);
        expect(ipProtocol(packet, at)).toBe(value.protocol === "tcp" ? 6 : 17);
        const width = value.version === 4 ? 4 : 16;
        const source = packet.subarray(sourceOffset(packet, at), sourceOffset(packet, at) + width);
        const destination = packet.subarray(
          destinationOffset(packet, at),
          destinationOffset(packet, at) + width,
        );
        expect([...source]).toEqual(addressBytes(value.version === 4 ? "10.8.0.2" : "fd00::2"));
        expect([...destination]).toEqual(addressBytes(value.version === 4 ? "10.8.0.1" : "fd00::1"));
      }),
    );
  });
});
