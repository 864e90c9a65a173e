/** The same peer is the same object, as long as it is remembered; nobody is taken for somebody else. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { HostPort } from "../../lib/address.ts";
import { AF_INET, AF_INET6, encodeSockaddr, SOCKADDR_IN6_BYTES } from "../../lib/sockaddr_linux.ts";
import { REMEMBERED_PEERS, UdpPeers } from "../../lib/udp_peers.ts";
import { check } from "../support/property.ts";

/** Asks for a peer as the kernel names it, somewhere in a larger memory. */
function named(peers: UdpPeers, family: number, peer: HostPort, at = 0): HostPort {
  const name = encodeSockaddr(family, peer);
  const memory = new Uint8Array(at + SOCKADDR_IN6_BYTES + 8).fill(0xaa);
  memory.set(name, at);
  return peers.named(memory, at, name.length);
}

/** So many different peers. */
const crowd = (count: number, port = 1): HostPort[] =>
  Array.from({ length: count }, (_, i) => ({ host: `10.1.${i >> 8}.${i & 255}`, port }));

describe("UdpPeers", () => {
  test("each name is its peer, wherever it stands; the same peer is the same object", () => {
    const peers = new UdpPeers();
    for (const family of [AF_INET, AF_INET6]) {
      const a = named(peers, family, { host: "192.0.2.1", port: 1 });
      const b = named(peers, family, { host: "192.0.2.1", port: 2 }, 32);
      expect([a, b]).toEqual([
        { host: "192.0.2.1", port: 1 },
        { host: "192.0.2.1", port: 2 },
      ]);
      expect(named(peers, family, { host: "192.0.2.1", port: 1 }, 64)).toBe(a);
      expect(named(peers, family, { host: "192.0.2.1", port: 1 }, 32)).toBe(a);
      expect(named(peers, family, { host: "192.0.2.1", port: 2 })).toBe(b);
    }
  });

  test("IPv6, mapped IPv4 and link-local with its zone", () => {
    const peers = new UdpPeers();
    for (const host of ["2001:db8::1", "192.0.2.1", "fe80::1%3", "fe80::1%4"])
      expect(named(peers, AF_INET6, { host, port: 51_820 })).toEqual({ host, port: 51_820 });
  });

  test("what the caller does with its memory changes no peer", () => {
    const peers = new UdpPeers();
    const name = encodeSockaddr(AF_INET, { host: "192.0.2.1", port: 7 });
    const peer = peers.named(name, 0, name.length);
    name[7] = 99;
    expect(peers.named(name, 0, name.length)).toEqual({ host: "192.0.2.99", port: 7 });
    expect(peer).toEqual({ host: "192.0.2.1", port: 7 });
  });

  test("so many are remembered, also when they take turns; one more empties the memory, and all are still told right", () => {
    const peers = new UdpPeers();
    const all = crowd(REMEMBERED_PEERS);
    const first = all.map((peer) => named(peers, AF_INET, peer));
    expect(first).toEqual(all);
    for (let i = 0; i < all.length; i++) expect(named(peers, AF_INET, all[i]!)).toBe(first[i]!);
    const flood = crowd(3 * REMEMBERED_PEERS, 2);
    expect(flood.map((peer) => named(peers, AF_INET, peer))).toEqual(flood);
    expect(all.map((peer) => named(peers, AF_INET, peer))).toEqual(all);
    expect(named(peers, AF_INET, all[0]!)).not.toBe(first[0]!);
  });

  test("any order of peers of both families", () => {
    const peers = new UdpPeers();
    const host = fc.constantFrom("10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "fe80::1%2");
    check(
      fc.property(fc.array(fc.record({ host, port: fc.integer({ min: 1, max: 3 }) })), (asked) => {
        const known = new Map<string, HostPort>();
        for (const peer of asked) {
          const family = peer.host.includes(":") ? AF_INET6 : AF_INET;
          const found = named(peers, family, peer);
          expect(found).toEqual(peer);
          const key = `${peer.host} ${peer.port}`;
          expect(found).toBe(known.get(key) ?? found);
          known.set(key, found);
        }
      }),
    );
  });
});
