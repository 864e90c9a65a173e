/** The virtio-net header: honest ones are admitted, every lie is refused, random bytes never break anything. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { VNET_HEADER_BYTES } from "../../lib/limits.ts";
import { packetLength } from "../../lib/packet.ts";
import {
  admitOffload,
  vnetCsumOffset,
  vnetCsumStart,
  vnetFlags,
  vnetGsoSize,
  vnetGsoType,
  writeVnetHeader,
} from "../../lib/vnet_header.ts";
import {
  buildPacket,
  kernelVnet,
  type PacketParts,
  type VnetParts,
  withVnet,
} from "../support/inner_packet.ts";
import { packetShapes } from "../support/inner_packet_shapes.ts";
import { bytes, check } from "../support/property.ts";

const parts = packetShapes(bytes(1, 300));

function admits(pair: Uint8Array, offset = 0): boolean {
  return admitOffload(pair, offset, pair.length - offset - VNET_HEADER_BYTES);
}

describe("writeVnetHeader", () => {
  test("golden bytes, little-endian", () => {
    const data = new Uint8Array(12).fill(0xee);
    writeVnetHeader(data, 1, 1, 4, 0x0102, 0x0304, 0x0506, 0x0708);
    expect(data.toHex()).toBe("ee" + "01040201" + "040306050807" + "ee");
  });

  test("round trip of every field that is read", () => {
    const word = fc.nat(0xffff);
    check(
      fc.property(fc.nat(255), fc.nat(255), word, word, word, (flags, type, size, start, csum) => {
        const data = new Uint8Array(13);
        writeVnetHeader(data, 3, flags, type, 0, size, start, csum);
        expect([vnetFlags(data, 3), vnetGsoType(data, 3)]).toEqual([flags, type]);
        expect([vnetGsoSize(data, 3), vnetCsumStart(data, 3), vnetCsumOffset(data, 3)]).toEqual([
          size,
          start,
          csum,
        ]);
      }),
    );
  });
});

describe("admitOffload: honest headers", () => {
  test("what the kernel writes is admitted unchanged, super-packet or not", () => {
    check(
      fc.property(parts, fc.nat(400), fc.nat(5), (value, size, offset) => {
        const gsoSize = size < 48 ? 0 : size;
        const packet = buildPacket({ ...value, checksum: "pseudo" });
        const pair = Buffer.concat([new Uint8Array(offset), withVnet(packet, kernelVnet(value, gsoSize))]);
        const before = pair.toString("hex");
        expect(admits(pair, offset)).toBe(true);
        expect(pair.toString("hex")).toBe(before);
      }),
      500,
    );
  });

  test("a finished packet is admitted with an empty header", () => {
    const packet = buildPacket({ version: 4, protocol: "udp" });
    const pair = withVnet(packet);
    expect(admits(pair)).toBe(true);
    expect(pair.toHex()).toBe("00".repeat(10) + packet.toHex());
  });

  test("DATA_VALID and unknown flags are cleared: a peer vouches for nothing", () => {
    const value: PacketParts = { version: 4, protocol: "tcp" };
    const finished = withVnet(buildPacket(value), { flags: 2 });
    expect(admits(finished)).toBe(true);
    expect(vnetFlags(finished, 0)).toBe(0);
    const unfinished = withVnet(buildPacket({ ...value, checksum: "pseudo" }), {
      ...kernelVnet(value),
      flags: 0xff,
    });
    expect(admits(unfinished)).toBe(true);
    expect(vnetFlags(unfinished, 0)).toBe(1);
  });

  test("fields that mean nothing without NEEDS_CSUM are cleared", () => {
    const pair = withVnet(buildPacket({ version: 4, protocol: "tcp" }), {
      headerLength: 9999,
      gsoSize: 1,
      csumStart: 60_000,
      csumOffset: 60_000,
    });
    expect(admits(pair)).toBe(true);
    expect(pair.subarray(0, 10).toHex()).toBe("00".repeat(10));
  });

  test("the header length is written from the packet, whatever the peer said", () => {
    const value: PacketParts = { version: 6, protocol: "tcp", payload: new Uint8Array(200) };
    for (const headerLength of [0, 1, 59, 61, 65_535]) {
      const pair = withVnet(buildPacket(value), { ...kernelVnet(value, 100), headerLength });
      expect(admits(pair)).toBe(true);
      expect(pair.subarray(2, 4).toHex()).toBe("3c00");
    }
  });

  test("the ECN flag beside a TCP type is admitted", () => {
    const value: PacketParts = { version: 4, protocol: "tcp", payload: new Uint8Array(200) };
    expect(admits(withVnet(buildPacket(value), { ...kernelVnet(value, 100), gsoType: 0x81 }))).toBe(true);
  });
});

describe("admitOffload: lies", () => {
  const tcp4: PacketParts = { version: 4, protocol: "tcp", payload: new Uint8Array(300) };
  const tcp6: PacketParts = { ...tcp4, version: 6 };
  const udp4: PacketParts = { ...tcp4, protocol: "udp" };
  const udp6: PacketParts = { ...udp4, version: 6 };

  const lies: [string, PacketParts, VnetParts][] = [
    ["a super-packet without NEEDS_CSUM", tcp4, { flags: 0 }],
    ["a super-packet with DATA_VALID only", tcp4, { flags: 2 }],
    ["type UDP (fragmentation offload), long gone from Linux", udp4, { gsoType: 3 }],
    ["an unknown type", tcp4, { gsoType: 2 }],
    ["another unknown type", tcp4, { gsoType: 0x7f }],
    ["TCPV6 over IPv4", tcp4, { gsoType: 4 }],
    ["TCPV4 over IPv6", tcp6, { gsoType: 1 }],
    ["a TCP type over UDP", udp4, { gsoType: 1 }],
    ["the UDP type over TCP", tcp4, { gsoType: 5 }],
    ["ECN beside the UDP type", udp4, { gsoType: 0x85 }],
    ["ECN alone", tcp4, { gsoType: 0x80 }],
    ["ECN alone, without a size", tcp4, { gsoType: 0x80, gsoSize: 0 }],
    ["a TCP super-packet of size 0", tcp4, { gsoSize: 0 }],
    ["a UDP super-packet of size 0", udp6, { gsoSize: 0 }],
    ["TCP segments smaller than Linux sends", tcp6, { gsoSize: 47 }],
    ["more UDP segments than Linux takes", udp4, { gsoSize: 2 }],
    ["a size without a type", tcp4, { gsoType: 0 }],
    ["a checksum start in the IP header", tcp4, { csumStart: 12 }],
    ["a checksum start behind the transport header", tcp4, { csumStart: 40 }],
    ["a checksum start past the packet", udp4, { csumStart: 65_535 }],
    ["a checksum start at 0", udp6, { csumStart: 0 }],
    ["a checksum offset at the ports", tcp4, { csumOffset: 0 }],
    ["UDP's checksum offset in TCP", tcp4, { csumOffset: 6 }],
    ["TCP's checksum offset in UDP", udp4, { csumOffset: 16 }],
    ["a checksum offset past the packet", tcp6, { csumOffset: 65_534 }],
  ];

  test.each(lies)("refuses %s", (_name, value, lie) => {
    const pair = withVnet(buildPacket({ ...value, checksum: "pseudo" }), {
      ...kernelVnet(value, 100),
      ...lie,
    });
    expect(admits(pair)).toBe(false);
  });

  test.each([
    ["more fragments to come", 0x2000],
    ["a fragment offset", 0x0001],
    ["a large fragment offset", 0x1f00],
  ])("refuses to finish a fragment: %s", (_name, fragment) => {
    const value: PacketParts = { ...udp4, fragment };
    expect(admits(withVnet(buildPacket(value), kernelVnet(value)))).toBe(false);
    expect(admits(withVnet(buildPacket(value), kernelVnet(value, 100)))).toBe(false);
  });

  test("refuses an IPv6 extension header in front of the transport header", () => {
    const extension = { nextHeader: 44, bytes: Uint8Array.of(17, 0, 0, 0, 0, 0, 0, 0) };
    const value: PacketParts = { ...udp6, extension };
    expect(admits(withVnet(buildPacket(value), kernelVnet(value, 100)))).toBe(false);
  });

  test("refuses a super-packet without payload", () => {
    for (const value of [tcp4, tcp6, udp4, udp6].map((whole) => ({ ...whole, payload: new Uint8Array(0) }))) {
      expect(admits(withVnet(buildPacket(value), kernelVnet(value, 100)))).toBe(false);
    }
  });

  test("refuses a UDP length that is not the packet's", () => {
    const packet = buildPacket({ ...udp4, checksum: "pseudo" });
    for (const length of [0, 7, 8, 307, 309, 65_535]) {
      packet[24] = length >> 8;
      packet[25] = length;
      expect(admits(withVnet(packet, kernelVnet(udp4, 100)))).toBe(false);
    }
  });

  test("refuses a TCP header that is too short, or longer than the packet", () => {
    for (const words of [0, 4, 15]) {
      const packet = buildPacket({ ...tcp4, payload: new Uint8Array(10) });
      packet[32] = words << 4;
      expect(admits(withVnet(packet, kernelVnet(tcp4)))).toBe(false);
    }
  });

  test("refuses every packet that ends inside its transport header", () => {
    for (const value of [tcp4, tcp6, udp4, udp6]) {
      const whole = withVnet(buildPacket(value), kernelVnet(value));
      const headers = kernelVnet(value).headerLength;
      for (let length = headers - 8; length < headers; length++) {
        expect(admits(whole.slice(0, VNET_HEADER_BYTES + length))).toBe(false);
      }
    }
  });

  test("random headers: never throws, changes nothing of the packet, admits only what is consistent", () => {
    const near = fc.record({
      flags: fc.constantFrom(0, 1, 2, 3),
      gsoType: fc.constantFrom(0, 1, 3, 4, 5, 0x81, 0x84),
      gsoSize: fc.nat(400),
      csumStart: fc.constantFrom(0, 20, 24, 40, 60),
      csumOffset: fc.constantFrom(0, 6, 16),
    });
    check(
      fc.property(parts, near, bytes(0, 60), (value, vnet, noise) => {
        const packet = buildPacket(value);
        packet.set(noise.subarray(0, packet.length - 4), 4);
        const length = packetLength(packet, 0, packet.length);
        const pair = withVnet(packet, vnet);
        if (length === 0) return;
        const admitted = admitOffload(pair, 0, length);
        expect(pair.subarray(VNET_HEADER_BYTES).toHex()).toBe(packet.toHex());
        if (!admitted || vnetFlags(pair, 0) === 0) return;
        expect(vnetCsumStart(pair, 0) + vnetCsumOffset(pair, 0) + 2).toBeLessThanOrEqual(length);
      }),
      2000,
    );
  });
});
