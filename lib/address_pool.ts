/**
 * Leases of inner addresses: one of each family that the server's tunnel has.
 *
 * Pure. Never handed out: the network's address (in IPv6 the subnet-router anycast address, RFC 4291, section 2.6.1),
 * IPv4's broadcast address, and the server's own. A user gets the address it had before when that is free. A reserved
 * address goes to nobody but its owner.
 */

import {
  type Address,
  addressFromBytes,
  makePrefix,
  networkOf,
  parseAddress,
  type Prefix,
  prefixContains,
} from "./address.ts";

/** The addresses of one session, with the prefix length of the tunnel's network; IPv4 first as the server has them. */
export type Lease = readonly Prefix[];

/** Former owners that are remembered for one network. */
const REMEMBERED_OWNERS = 65_536;
/** Host numbers that one network may use; a larger network has more than anybody needs. */
const MAX_HOSTS = 2 ** 24;

/** The addresses of all networks of a server. */
export class AddressPool {
  readonly #networks: readonly NetworkPool[];

  /** @param own the server's interface addresses, for example `10.8.0.1/24` and `fd00::1/64` */
  constructor(own: readonly Prefix[]) {
    this.#networks = own.map((prefix) => new NetworkPool(prefix));
  }

  /**
   * Makes these the reserved addresses; leases that stand are not touched.
   *
   * @param owners owner of each address, by its canonical text; addresses outside of all networks are ignored
   */
  reserve(owners: ReadonlyMap<string, string>): void {
    for (const network of this.#networks) network.reserve(owners);
  }

  /** Whether an address can be leased to anybody at all. */
  holds(address: Address): boolean {
    return this.#networks.some((network) => network.holds(address));
  }

  /**
   * Leases one address of each network.
   *
   * @param owner who asks; to find the address it had before, and those reserved for it
   * @param wanted addresses it would like; those that are free and in the pool are honoured
   * @returns null when a network has no free address
   */
  lease(owner: string, wanted: readonly Address[]): Lease | null {
    const chosen = this.#networks.map((network) => network.choose(owner, wanted));
    if (chosen.some((host) => host === null)) return null;
    return chosen.map((host, i) => this.#networks[i]!.take(host!, owner));
  }

  /** Takes a lease back; addresses that were not leased are ignored. */
  release(lease: Lease): void {
    for (const prefix of lease) {
      for (const network of this.#networks) network.release(prefix.address);
    }
  }
}

/** One network. A host number is the address less the network's address. */
class NetworkPool {
  readonly #network: Prefix;
  readonly #firstHost: number;
  readonly #lastHost: number;
  readonly #ownHost: number | null;
  readonly #taken = new Set<number>();
  #reserved: ReadonlyMap<number, string> = new Map();
  /** Last owner of each host number, the longest unused first. */
  readonly #owners = new Map<number, string>();

  constructor(own: Prefix) {
    this.#network = networkOf(own);
    const bits = (own.address.family === 4 ? 32 : 128) - own.length;
    const hosts = Math.min(2 ** bits, MAX_HOSTS);
    // RFC 3021: a /31 has neither a network's nor a broadcast address; a /127 likewise (RFC 6164)
    const isPair = bits === 1;
    this.#firstHost = isPair ? 0 : 1;
    this.#lastHost = own.address.family === 4 && !isPair ? hosts - 2 : hosts - 1;
    this.#ownHost = this.#hostOf(own.address);
    if (this.#ownHost !== null) this.#taken.add(this.#ownHost);
  }

  reserve(owners: ReadonlyMap<string, string>): void {
    const entries = [...owners].map(([text, owner]) => [this.#hostOf(parseAddress(text)), owner] as const);
    this.#reserved = new Map(entries.filter((entry): entry is [number, string] => entry[0] !== null));
  }

  holds(address: Address): boolean {
    const host = this.#hostOf(address);
    return host !== null && this.#inRange(host) && host !== this.#ownHost;
  }

  /** A free host number: a wanted one, the owner's last, one that nobody had, the one that was left longest ago. */
  choose(owner: string, wanted: readonly Address[]): number | null {
    for (const address of wanted) {
      const host = this.#hostOf(address);
      if (host !== null && this.#isFree(host, owner)) return host;
    }
    return this.#lastOf(owner) ?? this.#fresh(owner) ?? this.#longestUnused(owner);
  }

  take(host: number, owner: string): Prefix {
    this.#taken.add(host);
    this.#remember(host, owner);
    return makePrefix(this.#addressOf(host), this.#network.length);
  }

  release(address: Address): void {
    const host = this.#hostOf(address);
    const owner = host === null ? undefined : this.#owners.get(host);
    // the server's own address is taken without an owner and stays so
    if (host === null || owner === undefined) return;
    this.#taken.delete(host);
    this.#remember(host, owner);
  }

  #remember(host: number, owner: string): void {
    this.#owners.delete(host);
    this.#owners.set(host, owner);
    if (this.#owners.size <= REMEMBERED_OWNERS) return;
    for (const oldest of this.#owners.keys()) {
      if (this.#taken.has(oldest)) continue;
      this.#owners.delete(oldest);
      return;
    }
  }

  #inRange(host: number): boolean {
    return host >= this.#firstHost && host <= this.#lastHost;
  }

  #isFree(host: number, owner: string): boolean {
    return this.#inRange(host) && !this.#taken.has(host) && (this.#reserved.get(host) ?? owner) === owner;
  }

  #lastOf(owner: string): number | null {
    for (const [host, last] of this.#owners) if (last === owner && this.#isFree(host, owner)) return host;
    return null;
  }

  #fresh(owner: string): number | null {
    for (let host = this.#firstHost; host <= this.#lastHost; host++) {
      if (this.#isFree(host, owner) && !this.#owners.has(host)) return host;
    }
    return null;
  }

  #longestUnused(owner: string): number | null {
    for (const host of this.#owners.keys()) if (this.#isFree(host, owner)) return host;
    return null;
  }

  /** Null when the address is outside of this network or its host number too large. */
  #hostOf(address: Address): number | null {
    if (!prefixContains(this.#network, address)) return null;
    const host = toBigInt(address) - toBigInt(this.#network.address);
    return host < BigInt(MAX_HOSTS) ? Number(host) : null;
  }

  #addressOf(host: number): Address {
    const base = this.#network.address;
    const digits = (toBigInt(base) + BigInt(host)).toString(16).padStart(base.bytes.length * 2, "0");
    return addressFromBytes(Uint8Array.fromHex(digits));
  }
}

function toBigInt(address: Address): bigint {
  return BigInt(`0x${address.bytes.toHex()}`);
}
