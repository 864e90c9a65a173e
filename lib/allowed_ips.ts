/**
 * Longest-prefix match from an inner address to the peer that owns it (WireGuard's cryptokey routing).
 *
 * Outbound the destination chooses the peer; inbound the source must lead back to the peer that sent the packet. One
 * hash table per prefix length in use, tried from the longest: a server has /32 and /128 leases and perhaps a few
 * networks, so a look-up is one or two probes. Keys are compared word by word in place; a look-up allocates nothing.
 */

import { networkOf, parsePrefix } from "./address.ts";
import { readUint32 } from "./bytes.ts";

interface Entry<Peer> {
  readonly words: readonly number[];
  peer: Peer;
}

interface Level<Peer> {
  readonly length: number;
  /** One mask per 32-bit word of the address. */
  readonly masks: readonly number[];
  readonly buckets: Map<number, Entry<Peer>[]>;
}

/** The owners of prefixes; `Peer` is whatever the caller wants back. */
export class AllowedIps<Peer> {
  readonly #levels4: Level<Peer>[] = [];
  readonly #levels6: Level<Peer>[] = [];

  /** Gives `cidr` to `peer`; a prefix has one owner, the last one wins. */
  add(cidr: string, peer: Peer): void {
    const { levels, length, words } = this.#locate(cidr);
    let level = levels.find((candidate) => candidate.length === length);
    if (level === undefined) {
      level = { length, masks: masksOf(length, words.length), buckets: new Map() };
      levels.push(level);
      levels.sort((a, b) => b.length - a.length);
    }
    const hash = hashOf(words);
    const bucket = level.buckets.get(hash) ?? [];
    const known = bucket.find((entry) => entry.words.every((word, i) => word === words[i]));
    if (known !== undefined) known.peer = peer;
    else level.buckets.set(hash, [...bucket, { words, peer }]);
  }

  /** Takes every prefix away from `peer`. */
  removePeer(peer: Peer): void {
    for (const levels of [this.#levels4, this.#levels6]) {
      for (const level of levels) {
        for (const [hash, bucket] of level.buckets) {
          const kept = bucket.filter((entry) => entry.peer !== peer);
          if (kept.length === 0) level.buckets.delete(hash);
          else level.buckets.set(hash, kept);
        }
      }
      const used = levels.filter((level) => level.buckets.size > 0);
      levels.splice(0, levels.length, ...used);
    }
  }

  /** The owner of the IPv4 address whose 4 bytes are at `offset`. */
  find4(bytes: Uint8Array, offset: number): Peer | undefined {
    const word = readUint32(bytes, offset);
    for (const level of this.#levels4) {
      const masked = (word & level.masks[0]!) >>> 0;
      const bucket = level.buckets.get(masked);
      if (bucket !== undefined) return bucket[0]!.peer;
    }
    return undefined;
  }

  /** The owner of the IPv6 address whose 16 bytes are at `offset`. */
  find6(bytes: Uint8Array, offset: number): Peer | undefined {
    const a = readUint32(bytes, offset);
    const b = readUint32(bytes, offset + 4);
    const c = readUint32(bytes, offset + 8);
    const d = readUint32(bytes, offset + 12);
    for (const { masks, buckets } of this.#levels6) {
      const ma = (a & masks[0]!) >>> 0;
      const mb = (b & masks[1]!) >>> 0;
      const mc = (c & masks[2]!) >>> 0;
      const md = (d & masks[3]!) >>> 0;
      const bucket = buckets.get(mix4(ma, mb, mc, md));
      if (bucket === undefined) continue;
      for (const { words, peer } of bucket) {
        if (words[0] === ma && words[1] === mb && words[2] === mc && words[3] === md) return peer;
      }
    }
    return undefined;
  }

  #locate(cidr: string): { levels: Level<Peer>[]; length: number; words: number[] } {
    const network = networkOf(parsePrefix(cidr));
    const { bytes, family } = network.address;
    const words = Array.from({ length: bytes.length / 4 }, (_, i) => readUint32(bytes, i * 4));
    return { levels: family === 4 ? this.#levels4 : this.#levels6, length: network.length, words };
  }
}

function masksOf(length: number, words: number): number[] {
  return Array.from({ length: words }, (_, i) => {
    const bits = Math.min(32, Math.max(0, length - i * 32));
    return bits === 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0;
  });
}

/** An IPv4 word is its own hash, so its bucket never holds two entries. */
function hashOf(words: readonly number[]): number {
  return words.length === 1 ? words[0]! : mix4(words[0]!, words[1]!, words[2]!, words[3]!);
}

function mix4(a: number, b: number, c: number, d: number): number {
  let hash = Math.imul(a ^ (b >>> 16), 0x9e3779b1) ^ b;
  hash = Math.imul(hash ^ (hash >>> 15) ^ c, 0x85ebca77);
  hash = Math.imul(hash ^ (hash >>> 13) ^ d, 0xc2b2ae3d);
  return (hash ^ (hash >>> 16)) >>> 0;
}
