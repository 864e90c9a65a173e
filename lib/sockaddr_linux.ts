/**
 * Socket addresses of Linux: `struct sockaddr_in` and `struct sockaddr_in6` to and from values (ip(7), ipv6(7)).
 *
 * ```
 * sockaddr_in    family (2, host order) | port (2, big-endian) | address (4)  | zero (8)                          16 bytes
 * sockaddr_in6   family (2, host order) | port (2, big-endian) | flowinfo (4) | address (16) | scope ID (4, host) 28 bytes
 * ```
 */

import { addressFromBytes, type HostPort, parseAddress } from "./address.ts";
import { UsageError } from "./errors.ts";
import { readUint16, writeUint16 } from "./bytes.ts";

export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCKADDR_IN_BYTES = 16;
export const SOCKADDR_IN6_BYTES = 28;

const MAPPED_PREFIX = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

/**
 * The address that a socket of `family` sends to; an IPv6 socket reaches IPv4 by a mapped address (RFC 4291, 2.5.5.2).
 *
 * @throws {UsageError} when the host is no literal address, or not one that the socket reaches
 */
export function encodeSockaddr(family: number, { host, port }: HostPort): Uint8Array<ArrayBuffer> {
  const [literal = "", zone] = host.split("%");
  const { bytes } = parseAddress(literal);
  if (family === AF_INET) {
    if (bytes.length !== 4)
      throw new UsageError(`Cannot reach "${host}" from an IPv4 socket: expected an IPv4 address`);
    const encoded = new Uint8Array(SOCKADDR_IN_BYTES);
    encoded[0] = AF_INET;
    writeUint16(encoded, 2, port);
    encoded.set(bytes.subarray(0, 4), 4);
    return encoded;
  }
  const encoded = new Uint8Array(SOCKADDR_IN6_BYTES);
  encoded[0] = AF_INET6;
  writeUint16(encoded, 2, port);
  if (bytes.length === 4) {
    encoded.set(MAPPED_PREFIX, 8);
    encoded.set(bytes, 20);
  } else encoded.set(bytes, 8);
  new DataView(encoded.buffer).setUint32(24, Number(zone ?? 0) || 0, true);
  return encoded;
}

/** The peer behind an address that the kernel gave; an IPv4-mapped one reads as IPv4. */
export function decodeSockaddr(bytes: Uint8Array): HostPort {
  const port = readUint16(bytes, 2);
  if (bytes[0] === AF_INET) return { host: addressFromBytes(bytes.slice(4, 8)).text, port };
  const address = bytes.slice(8, 24);
  const isMapped = MAPPED_PREFIX.every((byte, i) => address[i] === byte);
  if (isMapped) return { host: addressFromBytes(address.slice(12)).text, port };
  const scope = new DataView(bytes.buffer, bytes.byteOffset).getUint32(24, true);
  const { text } = addressFromBytes(address);
  return { host: scope === 0 ? text : `${text}%${scope}`, port };
}
