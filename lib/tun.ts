/** What the rest of the program needs of a TUN device, whatever the system. */

/** An open TUN device; the control plane opens and closes it. */
export interface TunDevice {
  readonly fd: number;
  /** The interface's name as the system gave it (macOS chooses utunN itself). */
  readonly name: string;
  /** Packets carry a virtio-net header, and may be super-packets. */
  readonly offload: boolean;
  close(): void;
}

/** The packet path's view of an open TUN device, in the thread that moves packets. */
export interface PacketDevice {
  readonly offload: boolean;
  /** Super-packets of UDP (USO) may be written; TCP's may whenever {@link offload}. */
  readonly udpOffload: boolean;
  /**
   * Writes one packet (behind its virtio header if {@link offload}).
   *
   * @param packets ordinary packets that it stands for, 1 if not given
   * @returns 0, or the error number
   */
  write(bytes: Uint8Array, offset: number, length: number, packets?: number): number;
  /**
   * Ends its use: nothing is read or written from now on. The descriptor stays open, but whoever owns it may close it, and
   * its number may then be another file's; a record that is still being opened must not be written there.
   */
  stop(): void;
}

/** A device that the event loop reads (`data_loop_events.ts`); the loop of poll(2) has a way of its own. */
export interface AwaitedPacketDevice extends PacketDevice {
  /**
   * Waits for packets.
   *
   * @returns one or more packets back to back (each behind its virtio header if {@link offload}), valid until the next
   * call; or null when closed
   */
  read(): Promise<Uint8Array | null>;
}

/** The part of a stream reader that a device reads its descriptor by. */
export interface ChunkReader {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array<ArrayBuffer> | undefined }>;
  cancel(): Promise<void>;
}
