/** The peers of a UDP socket by the names that the kernel gives: the same peer is the same object, as long as it is remembered. */

import type { HostPort } from "./address.ts";
import { decodeSockaddr, SOCKADDR_IN6_BYTES } from "./sockaddr_linux.ts";

/** Peers that are remembered; a flood from many addresses empties the memory instead of growing it. */
export const REMEMBERED_PEERS = 1_024;

/** See the top of the file. */
export class UdpPeers {
  readonly #byName = new Map<string, HostPort>();
  readonly #lastName = new Uint8Array(SOCKADDR_IN6_BYTES);
  #last: HostPort | null = null;

  /** The peer whose struct sockaddr is `bytes[at..at+length)`. */
  named(bytes: Uint8Array, at: number, length: number): HostPort {
    const lastName = this.#lastName;
    let same = this.#last !== null;
    for (let i = 0; i < length && same; i++) same = bytes[at + i] === lastName[i];
    if (same) return this.#last!;
    const name = bytes.slice(at, at + length);
    lastName.fill(0);
    lastName.set(name);
    const key = name.toHex();
    let peer = this.#byName.get(key);
    if (peer === undefined) {
      if (this.#byName.size >= REMEMBERED_PEERS) this.#byName.clear();
      peer = decodeSockaddr(name);
      this.#byName.set(key, peer);
    }
    this.#last = peer;
    return peer;
  }
}
