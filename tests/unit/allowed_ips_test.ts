/** Longest-prefix match against a linear search over bit strings. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { addressFromBytes } from "../../lib/address.ts";
import { AllowedIps } from "../../lib/allowed_ips.ts";
import { UsageError } from "../../lib/errors.ts";
import { addressBytes } from "../support/inner_packet.ts";
import { check } from "../support/property.ts";

const bits = (bytes: readonly number[]) => bytes.map((byte) => byte.toString(2).padStart(8, "0")).join("");

/** The obvious implementation: every prefix as a string of bits. */
class Oracle {
  readonly prefixes = new Map<string, string>();

  add(family: number, bytes: readonly number[], length: number, peer: string): void {
    this.prefixes.set(`${family} ${bits(bytes).slice(0, length)}`, peer);
  }

  removePeer(peer: string): void {
    for (const [prefix, owner] of this.prefixes) if (owner === peer) this.prefixes.delete(prefix);
  }

  find(family: number, bytes: readonly number[]): string | undefined {
    const whole = bits(bytes);
    for (let length = whole.length; length >= 0; length--) {
      const owner = this.prefixes.get(`${family} ${whole.slice(0, length)}`);
      if (owner !== undefined) return owner;
    }
    return undefined;
  }
}

/** Addresses from few values, so that prefixes nest and meet. */
const address = (family: 4 | 6) =>
  fc.array(fc.constantFrom(0, 1, 127, 128, 255), {
    minLength: family === 4 ? 4 : 16,
    maxLength: family === 4 ? 4 : 16,
  });
const peer = fc.constantFrom("a", "b", "c", "d");
const step = (family: 4 | 6) =>
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.tuple(
        fc.constant("add" as const),
        address(family),
        fc.nat(family === 4 ? 32 : 128),
        peer,
      ),
    },
    { weight: 1, arbitrary: fc.tuple(fc.constant("remove" as const), address(family), fc.constant(0), peer) },
  );

describe("AllowedIps", () => {
  test.each([4, 6] as const)("IPv%i: agrees with a linear search, over additions and removals", (family) => {
    check(
      fc.property(
        fc.array(step(family), { maxLength: 20 }),
        fc.array(address(family), { minLength: 5, maxLength: 10 }),
        (steps, probes) => {
          const table = new AllowedIps<string>();
          const oracle = new Oracle();
          for (const [kind, bytes, length, owner] of steps) {
            if (kind === "remove") {
              table.removePeer(owner);
              oracle.removePeer(owner);
              continue;
            }
            table.add(`${addressFromBytes(Uint8Array.from(bytes)).text}/${length}`, owner);
            oracle.add(family, bytes, length, owner);
          }
          for (const probe of [...probes, ...steps.map(([, bytes]) => bytes)]) {
            const data = Uint8Array.from([9, 9, 9, ...probe]);
            const found = family === 4 ? table.find4(data, 3) : table.find6(data, 3);
            expect(found).toBe(oracle.find(family, probe));
          }
        },
      ),
      400,
    );
  });

  test("the longest prefix wins, and its removal brings the shorter one back", () => {
    const table = new AllowedIps<string>();
    table.add("0.0.0.0/0", "all");
    table.add("10.0.0.0/8", "net");
    table.add("10.8.0.2", "host");
    const at = (text: string) => table.find4(Uint8Array.from(addressBytes(text)), 0);
    expect([at("10.8.0.2"), at("10.8.0.3"), at("192.0.2.1")]).toEqual(["host", "net", "all"]);
    table.removePeer("host");
    expect(at("10.8.0.2")).toBe("net");
    table.removePeer("all");
    expect(at("192.0.2.1")).toBeUndefined();
  });

  test("the last owner of a prefix wins, and the removal of the former one does not take it away", () => {
    const table = new AllowedIps<string>();
    table.add("fd00::2", "old");
    table.add("fd00::2/128", "new");
    table.removePeer("old");
    expect(table.find6(Uint8Array.from(addressBytes("fd00::2")), 0)).toBe("new");
  });

  test("host bits do not matter", () => {
    const table = new AllowedIps<string>();
    table.add("10.8.0.77/24", "net");
    expect(table.find4(Uint8Array.of(10, 8, 0, 1), 0)).toBe("net");
  });

  test("the families never mix", () => {
    const table = new AllowedIps<string>();
    table.add("0.0.0.0/0", "four");
    expect(table.find6(new Uint8Array(16), 0)).toBeUndefined();
  });

  test("many /128 of one network, as a server has them", () => {
    const table = new AllowedIps<number>();
    for (let i = 0; i < 1000; i++) table.add(`fd00::${i.toString(16)}`, i);
    for (let i = 0; i < 1000; i += 7) {
      expect(table.find6(Uint8Array.from(addressBytes(`fd00::${i.toString(16)}`)), 0)).toBe(i);
    }
    expect(table.find6(Uint8Array.from(addressBytes("fd01::1")), 0)).toBeUndefined();
  });

  test("add: refuses what is no prefix", () => {
    expect(() => new AllowedIps<string>().add("10.0.0.0/33", "x")).toThrow(UsageError);
  });
});
