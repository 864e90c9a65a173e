/** An in-memory twin of a TUN device: what a test or a simulation puts in is read, what is written can be taken out. */

import { constants } from "node:os";
import { concatBytes } from "./bytes.ts";
import type { AwaitedPacketDevice } from "./tun.ts";

/** Packets go in by {@link inject} and come out of {@link written}. */
export class MemoryPacketDevice implements AwaitedPacketDevice {
  readonly offload: boolean;
  readonly udpOffload: boolean;
  /** Every packet written, oldest first. */
  readonly written: Uint8Array[] = [];
  /** While it is not 0, {@link write} takes nothing and answers this error number. */
  writeError = 0;
  readonly #waiting: Uint8Array[] = [];
  #wake: ((chunk: Uint8Array | null) => void) | null = null;
  #stopped = false;

  constructor(offload: boolean, udpOffload = offload) {
    this.offload = offload;
    this.udpOffload = udpOffload;
  }

  /** Packets that nobody has read yet. */
  get waitingPackets(): number {
    return this.#waiting.length;
  }

  /** Makes a packet (behind its virtio header if {@link offload}) readable. */
  inject(packet: Uint8Array): void {
    if (this.#wake === null) {
      this.#waiting.push(packet);
      return;
    }
    const wake = this.#wake;
    this.#wake = null;
    wake(packet);
  }

  read(): Promise<Uint8Array | null> {
    if (this.#stopped) return Promise.resolve(null);
    if (this.#waiting.length > 0) return Promise.resolve(concatBytes(...this.#waiting.splice(0)));
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  write(bytes: Uint8Array, offset: number, length: number): number {
    if (this.#stopped) return constants.errno.EBADF;
    if (this.writeError !== 0) return this.writeError;
    // a copy, also of a Buffer, whose slice() is none
    this.written.push(new Uint8Array(bytes.subarray(offset, offset + length)));
    return 0;
  }

  stop(): void {
    this.#stopped = true;
    this.#wake?.(null);
    this.#wake = null;
  }
}
