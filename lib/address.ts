/**
 * Strict IP addresses, prefixes and endpoints as values.
 *
 * Parsing is ipaddr.js behind `net.isIP`, which refuses the short and octal forms that ipaddr.js accepts
 * (`010.0.0.1`, `127.1`).
 */

import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import { UsageError } from "./errors.ts";

export type Family = 4 | 6;

/** An IP address: `bytes` has 4 or 16 bytes, `text` is its canonical form. */
export interface Address {
  readonly family: Family;
  readonly bytes: Uint8Array;
  readonly text: string;
}

/** An address with a prefix length. Host bits may be set: that is how an interface address is written. */
export interface Prefix {
  readonly address: Address;
  /** 0-32 or 0-128. */
  readonly length: number;
  /** Canonical form, for example `10.8.0.1/24`. */
  readonly text: string;
}

/** A host name or address literal with a port. */
export interface HostPort {
  /** Name or literal without brackets; empty means "every local address". */
  readonly host: string;
  readonly port: number;
}

/** @throws {UsageError} when `text` is not an IPv4 or IPv6 address in its full form */
export function parseAddress(text: string): Address {
  // the two disagree about zones: `isIP` takes any text behind a percent sign
  if (isIP(text) === 0 || !ipaddr.isValid(text))
    throw new UsageError(`Cannot read address "${text}": expected IPv4 or IPv6, for example 10.8.0.1`);
  const parsed = ipaddr.parse(text);
  return addressFromBytes(Uint8Array.from(parsed.toByteArray()));
}

/** Makes an address of 4 or 16 bytes; an IPv4-mapped IPv6 address stays IPv6. */
export function addressFromBytes(bytes: Uint8Array): Address {
  const parsed = ipaddr.fromByteArray(Array.from(bytes));
  const text = parsed.kind() === "ipv6" ? (parsed as ipaddr.IPv6).toRFC5952String() : parsed.toString();
  return { family: bytes.length === 4 ? 4 : 6, bytes, text };
}

/**
 * Reads `address/length`; an address alone stands for the single host.
 *
 * @throws {UsageError} when the address or the length is wrong
 */
export function parsePrefix(text: string): Prefix {
  const slash = text.indexOf("/");
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  const bits = address.family === 4 ? 32 : 128;
  if (slash < 0) return makePrefix(address, bits);
  const lengthText = text.slice(slash + 1);
  const length = /^(0|[1-9][0-9]{0,2})$/.test(lengthText) ? Number(lengthText) : -1;
  if (length < 0 || length > bits) {
    throw new UsageError(`Cannot read prefix "${text}": expected a length from 0 to ${bits} after the slash`);
  }
  return makePrefix(address, length);
}

/**
 * Reads a network in CIDR form and refuses host bits.
 *
 * @throws {UsageError} when host bits are set; the message names the network that was probably meant
 */
export function parseNetwork(text: string): Prefix {
  const prefix = parsePrefix(text);
  const network = networkOf(prefix);
  if (network.address.text !== prefix.address.text) {
    throw new UsageError(`Cannot use "${text}" as a network: host bits are set, expected ${network.text}`);
  }
  return network;
}

/** Joins an address and a length. */
export function makePrefix(address: Address, length: number): Prefix {
  return { address, length, text: `${address.text}/${length}` };
}

/** The network that a prefix lies in: the same length, host bits cleared. */
export function networkOf(prefix: Prefix): Prefix {
  const bytes = Uint8Array.from(prefix.address.bytes, (byte, i) => {
    const kept = Math.min(8, Math.max(0, prefix.length - i * 8));
    return byte & (0xff00 >> kept);
  });
  return makePrefix(addressFromBytes(bytes), prefix.length);
}

/** Whether `address` lies in `prefix`; host bits of the prefix do not matter. */
export function prefixContains(prefix: Prefix, address: Address): boolean {
  if (prefix.address.family !== address.family) return false;
  return networkOf(makePrefix(address, prefix.length)).address.text === networkOf(prefix).address.text;
}

/**
 * Reads `host:port`, `[v6]:port`, `:port` or `host`.
 *
 * @throws {UsageError} when the port is not 1-65535 or the form is none of these
 */
export function parseHostPort(text: string, defaultPort: number): HostPort {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]*))(?::([0-9]+))?$/.exec(text);
  if (match === null && isIP(text) === 6) return { host: text, port: defaultPort };
  const bracketed = match?.[1];
  if (match === null || (bracketed !== undefined && isIP(bracketed) !== 6)) {
    throw new UsageError(`Cannot read "${text}": expected HOST:PORT, [IPV6]:PORT or :PORT`);
  }
  const port = match[3] === undefined ? defaultPort : Number(match[3]);
  if (port < 1 || port > 65535)
    throw new UsageError(`Cannot use port "${match[3]}" of "${text}": expected 1 to 65535`);
  return { host: bracketed ?? match[2] ?? "", port };
}

/** Writes `host:port` with brackets where IPv6 needs them. */
export function formatHostPort(endpoint: HostPort): string {
  return endpoint.host.includes(":")
    ? `[${endpoint.host}]:${endpoint.port}`
    : `${endpoint.host}:${endpoint.port}`;
}

/** Turns an IPv4-mapped IPv6 text (`::ffff:192.0.2.1`), as dual-stack sockets report it, into IPv4. */
export function unmapAddress(text: string): string {
  return text.startsWith("::ffff:") && text.includes(".") ? text.slice(7) : text;
}
