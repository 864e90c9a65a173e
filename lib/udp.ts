/** What the packet path needs of a UDP socket, whatever carries it. */

import type { HostPort } from "./address.ts";

/**
 * Errors that an ICMP message left on the socket (ip(7), IP_RECVERR): the next call reports and clears them, whoever it
 * is for. Without a second try anybody's "port unreachable" would cost somebody else a record.
 */
export const PENDING_ERRORS: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EHOSTDOWN",
  "ECONNRESET",
  "EPROTO",
]);

/** What became of a send. */
export type SendResult = "sent" | "full" | "failed" | "too-large";

/**
 * Called with a received buffer of which the first `end` bytes count: one datagram, or several of one sender that the
 * kernel joined (UDP_GRO). The buffer is the receiver's to change, and gone when the call returns.
 */
export type ReceiveDatagrams = (bytes: Uint8Array<ArrayBuffer>, end: number, from: HostPort) => void;

/**
 * Called with one record that came whole: the header of its piece 0 is at `header[offset]`, its sealed bytes begin at
 * `sealed[start]`. Both buffers are the receiver's to change, and gone when the call returns.
 */
export type ReceiveRecord = (
  header: Uint8Array<ArrayBuffer>,
  offset: number,
  sealed: Uint8Array<ArrayBuffer>,
  start: number,
  from: HostPort,
) => void;

/** An unconnected UDP socket. */
export interface DatagramSocket {
  /** The local port. */
  readonly port: number;
  /**
   * Sends a sealed record as `pieces` datagrams, see `protocol.ts`.
   *
   * @param header of piece 0
   * @param body ciphertext, with the tag behind it unless `tag` is given
   * @param parity of every group, one behind the other, to go ahead as datagrams of their own; or null
   * @returns "full" when the kernel takes no more now ({@link onDrain} follows), "failed" when this record is lost,
   *   "too-large" when nothing was sent because the outgoing interface does not take datagrams of this size
   */
  sendRecord(
    header: Uint8Array,
    body: Uint8Array<ArrayBuffer>,
    tag: Uint8Array | null,
    parity: Uint8Array | null,
    pieces: number,
    to: HostPort,
  ): SendResult;
  /** Sends a record that is "too-large" all the same: its datagrams may be fragmented on the way. */
  sendFragments(...record: Parameters<DatagramSocket["sendRecord"]>): SendResult;
  /** Registers the receiver of datagrams. */
  onReceive(receive: ReceiveDatagrams): void;
  /** Registers who is told that sending is possible again. */
  onDrain(drained: () => void): void;
  /** What went wrong last in {@link sendRecord}, for the log. */
  readonly lastError: string | null;
  /** Datagrams that the kernel dropped because nobody took them in time, since the last call. */
  takeOverflowed(): number;
  close(): void;
}
