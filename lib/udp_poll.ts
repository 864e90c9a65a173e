/**
 * UDP on Linux by sendmsg(2) and `udp_receiver.ts` on the descriptor of a bound socket, for the loop of `data_loop_poll.ts`.
 *
 * A record leaves by one call whatever the number of its pieces: an iovec gathers headers and pieces from where they are,
 * and the control message UDP_SEGMENT (udp(7)) tells the kernel where to cut. Structures: struct msghdr, iovec and
 * cmsghdr of the 64-bit Linux ABI.
 */

import type { HostPort } from "./address.ts";
import { messageOf } from "./caught.ts";
import { errno, errnoName, libc, type Pointer, ptr } from "./libc.ts";
import {
  EAGAIN,
  ENOBUFS,
  IP_MTU_DISCOVER,
  IP_RECVERR,
  IPV6_MTU_DISCOVER,
  IPV6_RECVERR,
  PMTUDISC_DONT,
  PMTUDISC_PROBE,
  SOL_IP,
  SOL_IPV6,
  getsockopt,
  sendmsg,
  SO_MEMINFO,
  SOL_SOCKET,
  SOL_UDP,
  UDP_SEGMENT,
} from "./libc_linux.ts";
import { HEADER_BYTES } from "./limits.ts";
import { parityPiece, pieceSize, writePiece } from "./protocol.ts";
import { AF_INET6, encodeSockaddr } from "./sockaddr_linux.ts";
import {
  type DatagramSocket,
  PENDING_ERRORS,
  type ReceiveDatagrams,
  type ReceiveRecord,
  type SendResult,
} from "./udp.ts";
import { REMEMBERED_PEERS } from "./udp_peers.ts";
import { DatagramReceiver } from "./udp_receiver.ts";
import { MAX_DATAGRAMS } from "./udp_scatter.ts";

const IOVEC_BYTES = 16;
/** One for each header, one for each piece, one for the tag, and one for a tag that a piece boundary divides. */
const MAX_IOVECS = 2 * MAX_DATAGRAMS + 2;

// Places in the arena that holds all structures; 8-byte aligned.
const MSGHDR = 0;
const NAME = 64;
const CONTROL = 96;
const CONTROL_BYTES = 24;
const IOVECS = 128;
const HEADERS = IOVECS + MAX_IOVECS * IOVEC_BYTES;
const ARENA_BYTES = HEADERS + MAX_DATAGRAMS * HEADER_BYTES;

/** u32 values of SO_MEMINFO, and which of them counts drops (linux/sock_diag.h). */
const MEMORY_INFO_LENGTH = 9;
const SK_MEMINFO_DROPS = 8;

const TWO_32 = 2 ** 32;

/** A bound UDP socket whose descriptor nobody else reads. */
export class PollDatagramSocket implements DatagramSocket {
  readonly port: number;
  #fd: number;
  readonly #receiver: DatagramReceiver;
  #lastError: string | null = null;
  readonly #family: number;
  readonly #close: () => void;
  readonly #arena = new Uint8Array(ARENA_BYTES);
  readonly #words = new Uint32Array(this.#arena.buffer);
  readonly #address: number = ptr(this.#arena);
  /** The header of the record being sent, to be copied word by word. */
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #headerWords = new Uint32Array(this.#header.buffer);
  /** First iovec of each datagram of the record being sent, for sending them one by one, and the end of the last. */
  readonly #datagramIovecs = new Int32Array(MAX_DATAGRAMS + 1);
  readonly #names = new Map<string, Uint8Array>();
  readonly #memoryInfo = new Uint32Array(MEMORY_INFO_LENGTH + 1);
  readonly #memoryInfoAddress: number = ptr(this.#memoryInfo);
  #drops = 0;
  #drained: (() => void) | null = null;
  #to: HostPort | null = null;
  #gso = true;
  /** The last error was EMSGSIZE. */
  #tooLarge = false;
  /** The error by which the last segmented send was refused, where that may be for the segmentation. */
  #refusal: string | null = null;
  /** Passed to setsockopt by address, so it lives as long as the socket. */
  readonly #option = new Int32Array(1);

  /**
   * @param family AF_INET or AF_INET6, as the socket was made
   * @param close ends the descriptor
   */
  constructor(fd: number, family: number, port: number, close: () => void) {
    this.#fd = fd;
    this.#receiver = new DatagramReceiver(fd);
    this.port = port;
    this.#family = family;
    this.#close = close;
    this.#setPointer(MSGHDR, NAME);
    this.#setPointer(MSGHDR + 16, IOVECS);
    const control = this.#words.subarray(CONTROL / 4);
    // cmsg_len = CMSG_LEN(2), level, type; the value is set for each send
    control.set([18, 0, SOL_UDP, UDP_SEGMENT]);
    // anybody's ICMP error would fail a send to somebody else, and keep poll(2) awake until its queue is read
    this.#setOption(IP_RECVERR, IPV6_RECVERR, 0);
    this.#setOption(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE);
  }

  /** -1 after {@link close}, which every system call refuses. */
  get fd(): number {
    return this.#fd;
  }

  get lastError(): string | null {
    return this.#lastError ?? this.#receiver.lastError;
  }

  onReceive(receive: ReceiveDatagrams): void {
    this.#receiver.datagrams = receive;
  }

  /** Registers the receiver of records that came whole. */
  onRecord(receive: ReceiveRecord): void {
    this.#receiver.record = receive;
  }

  onDrain(drained: () => void): void {
    this.#drained = drained;
  }

  /** The descriptor takes data again. */
  drain(): void {
    this.#drained?.();
  }

  takeOverflowed(): number {
    const info = this.#memoryInfo;
    info[MEMORY_INFO_LENGTH] = MEMORY_INFO_LENGTH * 4;
    const lengthAddress = this.#memoryInfoAddress + MEMORY_INFO_LENGTH * 4;
    const address = this.#memoryInfoAddress as Pointer;
    if (getsockopt(this.#fd, SOL_SOCKET, SO_MEMINFO, address, lengthAddress as Pointer) !== 0) return 0;
    const drops = info[SK_MEMINFO_DROPS]!;
    const overflowed = (drops - this.#drops) >>> 0;
    this.#drops = drops;
    return overflowed;
  }

  close(): void {
    if (this.#fd === -1) return;
    // a record that is still being sealed must not go to whatever gets this number next
    this.#fd = -1;
    this.#close();
  }

  /** The last {@link receive} is known to have emptied the socket. */
  get isDrained(): boolean {
    return this.#receiver.isDrained;
  }

  /**
   * Hands what one call gives to the receiver.
   *
   * @returns bytes received, about; 0 when nothing waits
   */
  receive(): number {
    return this.#receiver.receive();
  }

  sendRecord(
    header: Uint8Array,
    body: Uint8Array<ArrayBuffer>,
    tag: Uint8Array | null,
    parity: Uint8Array | null,
    pieces: number,
    to: HostPort,
  ): SendResult {
    if (!this.#placeName(to)) return "failed";
    const datagrams = this.#gather(header, body, tag, parity, pieces);
    if (datagrams > 1 && !this.#gso) return this.#sendOneByOne(datagrams);
    const sent = this.#send(0, this.#datagramIovecs[datagrams]!, datagrams > 1);
    if (sent !== "again") return sent;
    const alone = this.#sendOneByOne(datagrams);
    if (datagrams > 1 && alone === "sent" && this.#refusal !== null) this.#giveUpSegmentation(this.#refusal);
    return alone;
  }

  /** Datagrams that were refused together leave one by one: it was not their size. It is asked once and no more. */
  #giveUpSegmentation(refusal: string): void {
    this.#gso = false;
    this.#lastError = `sendmsg refuses UDP_SEGMENT with ${refusal}, so datagrams leave one by one from now on`;
  }

  sendFragments(
    header: Uint8Array,
    body: Uint8Array<ArrayBuffer>,
    tag: Uint8Array | null,
    parity: Uint8Array | null,
    pieces: number,
    to: HostPort,
  ): SendResult {
    if (!this.#placeName(to)) return "failed";
    const datagrams = this.#gather(header, body, tag, parity, pieces);
    this.#setOption(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DONT);
    const sent = this.#sendOneByOne(datagrams);
    this.#setOption(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE);
    return sent === "too-large" ? "failed" : sent;
  }

  /** Sets an option of IPv4 and, on a socket that has both families, its twin of IPv6. */
  #setOption(name4: number, name6: number, value: number): void {
    this.#option[0] = value;
    libc.setsockopt(this.#fd, SOL_IP, name4, ptr(this.#option), 4);
    if (this.#family === AF_INET6) libc.setsockopt(this.#fd, SOL_IPV6, name6, ptr(this.#option), 4);
  }

  /** Puts the destination into the message. */
  #placeName(to: HostPort): boolean {
    if (to === this.#to) return true;
    const key = `${to.host} ${to.port}`;
    let name = this.#names.get(key);
    if (name === undefined) {
      try {
        name = encodeSockaddr(this.#family, to);
      } catch (error) {
        this.#lastError = messageOf(error);
        return false;
      }
      if (this.#names.size >= REMEMBERED_PEERS) this.#names.clear();
      this.#names.set(key, name);
    }
    this.#arena.set(name, NAME);
    this.#words[(MSGHDR + 8) / 4] = name.length;
    this.#to = to;
    return true;
  }

  /** Writes headers and iovecs for the whole record. @returns the number of its datagrams */
  #gather(
    header: Uint8Array,
    body: Uint8Array,
    tag: Uint8Array | null,
    parity: Uint8Array | null,
    pieces: number,
  ): number {
    const length = body.length + (tag === null ? 0 : tag.length);
    const piece = pieceSize(length, pieces);
    const bodyAddress: number = ptr(body);
    const tagAddress: number = tag === null ? 0 : ptr(tag);
    for (let j = 0; j < HEADER_BYTES; j++) this.#header[j] = header[j]!;
    let datagram = 0;
    let iovec = 0;
    const groups = parity === null ? 0 : parity.length / piece;
    const parityAddress: number = parity === null ? 0 : ptr(parity);
    for (let group = 0; group < groups; group++) {
      iovec = this.#beginDatagram(datagram++, iovec, parityPiece(groups, group));
      this.#setIovec(iovec++, parityAddress + group * piece, piece);
    }
    for (let i = 0; i < pieces; i++) {
      iovec = this.#beginDatagram(datagram++, iovec, i);
      const from = i * piece;
      const to = Math.min(from + piece, length);
      if (from < body.length) this.#setIovec(iovec++, bodyAddress + from, Math.min(to, body.length) - from);
      if (to > body.length) {
        const tagFrom = Math.max(0, from - body.length);
        this.#setIovec(iovec++, tagAddress + tagFrom, to - body.length - tagFrom);
      }
    }
    this.#datagramIovecs[datagram] = iovec;
    this.#words[CONTROL / 4 + 4] = HEADER_BYTES + piece;
    return datagram;
  }

  /** Writes the header of one datagram, and its iovec. @returns the number of the next iovec */
  #beginDatagram(datagram: number, iovec: number, piece: number): number {
    const at = HEADERS + datagram * HEADER_BYTES;
    for (let j = 0; j < HEADER_BYTES / 4; j++) this.#words[at / 4 + j] = this.#headerWords[j]!;
    writePiece(this.#arena, at, piece);
    this.#datagramIovecs[datagram] = iovec;
    this.#setIovec(iovec, this.#address + at, HEADER_BYTES);
    return iovec + 1;
  }

  #send(firstIovec: number, iovecs: number, segmented: boolean): SendResult | "again" {
    const words = this.#words;
    this.#setPointer(MSGHDR + 16, IOVECS + firstIovec * IOVEC_BYTES);
    words[(MSGHDR + 24) / 4] = iovecs;
    this.#setPointer(MSGHDR + 32, CONTROL);
    words[(MSGHDR + 40) / 4] = segmented ? CONTROL_BYTES : 0;
    if (sendmsg(this.#fd, this.#address as Pointer, 0) >= 0) return "sent";
    const code = errno();
    if (code === EAGAIN || code === ENOBUFS) return "full";
    return this.#sendFailed(errnoName(code), segmented);
  }

  #sendFailed(name: string, segmented: boolean): SendResult | "again" {
    // it means this datagram only if it comes again: it may be an ICMP error that waited on the socket
    this.#tooLarge = name === "EMSGSIZE";
    if (segmented) this.#refusal = null;
    if (this.#tooLarge) return "again";
    this.#lastError = `sendmsg: ${name}`;
    if (PENDING_ERRORS.has(name)) return "again";
    if (!segmented) return "failed";
    // EIO: the outgoing device or IPsec cannot segment (udp_send_skb in net/ipv4/udp.c). EINVAL: a socket without
    // checksums, or before Linux 6.13 segments that the interface does not take
    if (name !== "EIO" && name !== "EINVAL") return "failed";
    this.#refusal = name;
    return "again";
  }

  #sendOneByOne(datagrams: number): SendResult {
    for (let i = 0; i < datagrams; i++) {
      const first = this.#datagramIovecs[i]!;
      const iovecs = this.#datagramIovecs[i + 1]! - first;
      let sent = this.#send(first, iovecs, false);
      if (sent === "again") sent = this.#send(first, iovecs, false);
      // the pieces before this one are out: sending all again would be worse than losing the rest of the record
      if (sent !== "sent") return i > 0 ? "failed" : this.#unsent(sent);
    }
    return "sent";
  }

  /** Nothing of a record is out, after two tries or for a full socket. */
  #unsent(result: SendResult | "again"): SendResult {
    if (result === "again") return this.#tooLarge ? "too-large" : "failed";
    return result;
  }

  #setIovec(index: number, address: number, length: number): void {
    const word = (IOVECS + index * IOVEC_BYTES) / 4;
    this.#words[word] = address;
    this.#words[word + 1] = address / TWO_32;
    this.#words[word + 2] = length;
  }

  /** Writes the address of a place in the arena at `at`. */
  #setPointer(at: number, place: number): void {
    const address = this.#address + place;
    this.#words[at / 4] = address;
    this.#words[at / 4 + 1] = address / TWO_32;
  }
}
