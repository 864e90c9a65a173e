/**
 * What a router owes the packets that it takes from the TUN device: a lower MSS in a SYN, and an ICMP error when they cannot
 * go on. It goes to the session of a client that sent the packet, else back to the device.
 *
 * The errors come from the address that the packet was for: the kernel takes no packet from outside whose source is its
 * own address, and none whose source it would not route to this device. Hosts match an error by the packet it quotes.
 */

import type { Clock } from "./clock.ts";
import type { DropCounter } from "./drop_counter.ts";
import { ICMP_ERRORS_BURST, ICMP_ERRORS_PER_SECOND, VNET_HEADER_BYTES } from "./limits.ts";
import { destinationOffset, ipVersion } from "./packet.ts";
import { hostUnreachable, packetTooBig } from "./packet_icmp.ts";
import { clampMss } from "./packet_mss.ts";
import { TokenBucket } from "./token_bucket.ts";
import type { PacketDevice } from "./tun.ts";
import { GSO_NONE, VNET_NEEDS_CSUM, vnetFlags, vnetGsoType } from "./vnet_header.ts";

/** The flag DF in the byte of the flags (RFC 791). */
const DONT_FRAGMENT = 0x40;

/** See the top of the file. */
export class TunRouter {
  readonly #tun: PacketDevice;
  readonly #drops: DropCounter;
  readonly #clock: Clock;
  readonly #mtuBytes: number;
  readonly #knowsAll: boolean;
  readonly #toSession: (error: Uint8Array<ArrayBuffer>) => boolean;
  readonly #errors: TokenBucket;

  /**
   * @param mtuBytes the inner MTU
   * @param knowsAll nobody has the address of a packet without a session; a client's session may only be late
   * @param toSession a server's way to its clients: sends a packet to the session of its destination, false when none has it
   */
  constructor(
    tun: PacketDevice,
    drops: DropCounter,
    clock: Clock,
    mtuBytes: number,
    knowsAll: boolean,
    toSession: (error: Uint8Array<ArrayBuffer>) => boolean,
  ) {
    this.#tun = tun;
    this.#drops = drops;
    this.#clock = clock;
    this.#mtuBytes = mtuBytes;
    this.#knowsAll = knowsAll;
    this.#toSession = toSession;
    this.#errors = new TokenBucket(ICMP_ERRORS_PER_SECOND, ICMP_ERRORS_BURST, clock.monotonicMs());
  }

  /**
   * Whether the packet `bytes[packet..end)` with its virtio header, if any, at `offset` may go on, after its MSS was lowered.
   * One that is longer than the inner MTU may if it may be fragmented, for it travels in pieces. Super-packets are neither
   * SYN nor too long: the kernel made their segments.
   */
  forwards(bytes: Uint8Array, offset: number, packet: number, end: number): boolean {
    const { offload } = this.#tun;
    if (offload && vnetGsoType(bytes, offset) !== GSO_NONE) return true;
    const open = offload && (vnetFlags(bytes, offset) & VNET_NEEDS_CSUM) !== 0;
    clampMss(bytes, packet, end, this.#mtuBytes, open);
    if (end - packet <= this.#mtuBytes || mayFragment(bytes, packet)) return true;
    this.#drops.add("packet-too-big");
    if (this.#errors.take(this.#clock.monotonicMs()))
      this.#write(packetTooBig(bytes, packet, end, destinationOf(bytes, packet), this.#mtuBytes));
    return false;
  }

  /** Drops the packet `bytes[packet..end)`, whose destination no session has. */
  noSession(bytes: Uint8Array, packet: number, end: number): void {
    this.#drops.add("no-session");
    if (!this.#knowsAll || !this.#errors.take(this.#clock.monotonicMs())) return;
    this.#write(hostUnreachable(bytes, packet, end, destinationOf(bytes, packet)));
  }

  #write(error: Uint8Array<ArrayBuffer> | null): void {
    if (error === null || (this.#knowsAll && this.#toSession(error))) return;
    const vnetBytes = this.#tun.offload ? VNET_HEADER_BYTES : 0;
    const framed = new Uint8Array(vnetBytes + error.length);
    framed.set(error, vnetBytes);
    this.#tun.write(framed, 0, framed.length);
  }
}

/** Whether a router may cut the packet at `offset`: IPv4 without DF. */
function mayFragment(bytes: Uint8Array, offset: number): boolean {
  return ipVersion(bytes, offset) === 4 && (bytes[offset + 6]! & DONT_FRAGMENT) === 0;
}

function destinationOf(bytes: Uint8Array, offset: number): Uint8Array {
  const at = destinationOffset(bytes, offset);
  return bytes.slice(at, at + (ipVersion(bytes, offset) === 4 ? 4 : 16));
}
