import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseAddress, parsePrefix, prefixContains } from "../../lib/address.ts";
import { AddressPool, type Lease } from "../../lib/address_pool.ts";
import { check } from "../support/property.ts";

const poolOf = (...own: string[]): AddressPool => new AddressPool(own.map(parsePrefix));
const texts = (lease: Lease | null): string[] | null => lease?.map((prefix) => prefix.text) ?? null;

test("lease() gives one address of each network, with its prefix length", () => {
  expect(texts(poolOf("10.8.0.1/24", "fd00::1/64").lease("a", []))).toEqual(["10.8.0.2/24", "fd00::2/64"]);
});

test("lease() skips the network's, the broadcast and the server's own address", () => {
  const pool = poolOf("10.0.0.2/29");
  const leases = Array.from({ length: 6 }, () => texts(pool.lease("a", []))?.[0]);
  expect(leases).toEqual([
    "10.0.0.1/29",
    "10.0.0.3/29",
    "10.0.0.4/29",
    "10.0.0.5/29",
    "10.0.0.6/29",
    undefined,
  ]);
});

test("lease() knows point-to-point networks (RFC 3021, RFC 6164) and single addresses", () => {
  expect(texts(poolOf("10.0.0.0/31").lease("a", []))).toEqual(["10.0.0.1/31"]);
  expect(texts(poolOf("fd00::1/127").lease("a", []))).toEqual(["fd00::/127"]);
  expect(poolOf("10.0.0.1/32").lease("a", [])).toBeNull();
  expect(poolOf("fd00::1/128").lease("a", [])).toBeNull();
});

test("lease() is null when any network is used up, and then takes nothing of the others", () => {
  const pool = poolOf("10.0.0.1/30", "fd00::1/64");
  const first = pool.lease("a", [])!;
  expect(pool.lease("b", [])).toBeNull();
  pool.release(first);
  expect(texts(pool.lease("b", []))).toEqual(["10.0.0.2/30", "fd00::3/64"]);
});

test("lease() honours a wanted address that is free, and no other", () => {
  const pool = poolOf("10.8.0.1/24");
  const want = (text: string) => texts(pool.lease("a", [parseAddress(text)]))?.[0];
  expect(want("10.8.0.77")).toBe("10.8.0.77/24");
  expect(want("10.8.0.77")).toBe("10.8.0.2/24");
  for (const text of ["10.8.0.1", "10.8.0.0", "10.8.0.255", "10.9.0.5", "::ffff:10.8.0.9", "fd00::5"]) {
    expect(want(text)).not.toBe(`${text}/24`);
  }
});

test("lease() gives users what they had before, and newcomers what nobody had", () => {
  const pool = poolOf("10.8.0.1/24");
  const alice = pool.lease("alice", [])!;
  const bob = pool.lease("bob", [])!;
  pool.release(alice);
  pool.release(bob);
  expect(texts(pool.lease("carol", []))).toEqual(["10.8.0.4/24"]);
  expect(texts(pool.lease("bob", []))).toEqual(texts(bob));
  expect(texts(pool.lease("alice", []))).toEqual(texts(alice));
});

test("lease() falls back to the address that was left longest ago", () => {
  const pool = poolOf("10.0.0.1/29");
  const leases = ["a", "b", "c", "d", "e"].map((owner) => pool.lease(owner, [])!);
  for (const i of [3, 0, 4]) pool.release(leases[i]!);
  expect(texts(pool.lease("new", []))).toEqual(texts(leases[3]!));
  expect(texts(pool.lease("new", []))).toEqual(texts(leases[0]!));
});

test("release() ignores addresses that are not leased, the server's own among them", () => {
  const pool = poolOf("10.0.0.1/30");
  pool.release([parsePrefix("10.0.0.1/30"), parsePrefix("192.0.2.1/24")]);
  expect(texts(pool.lease("a", []))).toEqual(["10.0.0.2/30"]);
  expect(pool.lease("b", [])).toBeNull();
});

test("AddressPool never leases an address twice, nor one outside of its network", () => {
  const network = parsePrefix("10.0.0.9/28");
  const step = fc.record({ owner: fc.constantFrom("a", "b", "c"), host: fc.nat(15), release: fc.nat(20) });
  check(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const pool = new AddressPool([network]);
      const held: Lease[] = [];
      for (const { owner, host, release } of steps) {
        const lease = pool.lease(owner, [parseAddress(`10.0.0.${host}`)]);
        if (lease !== null) held.push(lease);
        if (release < held.length) pool.release(held.splice(release, 1)[0]!);
        const addresses = held.map(([prefix]) => prefix!.address.text);
        expect(new Set(addresses).size).toBe(addresses.length);
        expect(addresses).not.toContain("10.0.0.9");
        for (const [prefix] of held) expect(prefixContains(network, prefix!.address)).toBe(true);
      }
    }),
  );
});

describe("reserved addresses", () => {
  const texts = (lease: Lease | null): readonly string[] | undefined =>
    lease?.map(({ address }) => address.text);

  test("go to their owner only, whoever wants them", () => {
    const pool = new AddressPool([parsePrefix("10.8.0.1/29")]);
    pool.reserve(new Map([["10.8.0.2", "alice"]]));
    const wanted = [parseAddress("10.8.0.2")];
    expect(texts(pool.lease("bob", wanted))).toEqual(["10.8.0.3"]);
    expect(texts(pool.lease("alice", wanted))).toEqual(["10.8.0.2"]);
    for (const expected of ["10.8.0.4", "10.8.0.5", "10.8.0.6"])
      expect(texts(pool.lease("bob", []))).toEqual([expected]);
    expect(pool.lease("bob", [])).toBeNull();
  });

  test("stay reserved when their owner leaves, and are free when the reservation ends", () => {
    const pool = new AddressPool([parsePrefix("10.8.0.1/30")]);
    pool.reserve(
      new Map([
        ["10.8.0.2", "alice"],
        ["192.0.2.1", "alice"],
      ]),
    );
    const lease = pool.lease("alice", []);
    pool.release(lease!);
    expect(pool.lease("bob", [])).toBeNull();
    pool.reserve(new Map());
    expect(texts(pool.lease("bob", []))).toEqual(["10.8.0.2"]);
  });

  test("holds() tells which addresses clients can have at all", () => {
    const pool = new AddressPool([parsePrefix("10.8.0.1/24"), parsePrefix("fd08:8::1/64")]);
    const held = ["10.8.0.0", "10.8.0.1", "10.8.0.2", "10.8.0.255", "10.8.1.2", "fd08:8::9", "fd08:9::9"];
    expect(held.filter((text) => pool.holds(parseAddress(text)))).toEqual(["10.8.0.2", "fd08:8::9"]);
  });
});
