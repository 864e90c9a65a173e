/**
 * Recognises our own datagrams among the packets of the TUN: a route that leads the tunnel into itself.
 *
 * Each turn of such a loop would seal the datagram of the turn before, for ever and at full speed; so what is addressed
 * from our own port to the very endpoint that it would be sent to is dropped. Another tunnel inside this one has another
 * endpoint and passes.
 */

import { type HostPort, parseAddress } from "./address.ts";
import { readUint16 } from "./bytes.ts";
import { destinationOffset, ipHeaderBytes, ipProtocol, PROTOCOL_UDP } from "./packet.ts";

/** Ports of a UDP header (RFC 768). */
const PORTS_BYTES = 4;

/** Remembers the endpoint that it looked at last, so that its text is read once. */
export class RoutingLoop {
  #endpoint: HostPort | null = null;
  #address: Uint8Array = new Uint8Array(0);

  /**
   * Whether the packet `bytes[packet..end)`, which would go to `endpoint`, is a datagram that we sent there ourselves.
   *
   * @param port local UDP port of the tunnel's socket
   */
  closes(bytes: Uint8Array, packet: number, end: number, endpoint: HostPort, port: number): boolean {
    if (ipProtocol(bytes, packet) !== PROTOCOL_UDP) return false;
    const transport = packet + ipHeaderBytes(bytes, packet);
    if (transport + PORTS_BYTES > end) return false;
    if (readUint16(bytes, transport + 2) !== endpoint.port || readUint16(bytes, transport) !== port)
      return false;
    if (endpoint !== this.#endpoint) {
      this.#endpoint = endpoint;
      this.#address = parseAddress(endpoint.host.split("%")[0]!).bytes;
    }
    const address = this.#address;
    const at = destinationOffset(bytes, packet);
    if ((address.length === 4) !== bytes[packet]! >>> 4 < 6) return false;
    for (let i = 0; i < address.length; i++) if (bytes[at + i] !== address[i]) return false;
    return true;
  }
}
