/** What the packet path needs of a UDP socket, whatever carries it. */

/** What became of a send. */
export type SendResult = "sent" | "full" | "failed";

/**
 * Called with a received buffer: one datagram, or several of one sender that the kernel joined (UDP_GRO). The buffer is
 * the receiver's to change, and gone when the call returns.
 */
export type ReceiveDatagrams = (bytes: Uint8Array<ArrayBuffer>, host: string, port: number) => void;

/** An unconnected UDP socket. */
export interface DatagramSocket {
  /** The local port. */
  readonly port: number;
  /**
   * Sends `bytes` as datagrams of `segmentBytes` each, the last one possibly shorter.
   *
   * @returns "full" when the kernel takes no more now ({@link onDrain} follows), "failed" when these datagrams are lost
   */
  send(bytes: Uint8Array, segmentBytes: number, host: string, port: number): SendResult;
  /** Registers the receiver of datagrams. */
  onReceive(receive: ReceiveDatagrams): void;
  /** Registers who is told that sending is possible again. */
  onDrain(drained: () => void): void;
  /** What went wrong last in {@link send}, for the log. */
  readonly lastError: string | null;
  close(): void;
}
