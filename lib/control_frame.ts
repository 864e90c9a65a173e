/**
 * Frames of the control channel: a length as u32 big-endian, then that many bytes of one message.
 *
 * Pure: bytes in, message bodies out. The length is judged before a byte of the body is kept.
 */

import { readUint32, writeUint32 } from "./bytes.ts";
import { ProtocolError } from "./errors.ts";
import { MAX_CONTROL_MESSAGE_BYTES } from "./limits.ts";

/** Length prefix of every frame. */
export const FRAME_HEADER_BYTES = 4;

/**
 * Puts the length in front of a message.
 *
 * @throws {ProtocolError} when the message is empty or longer than {@link MAX_CONTROL_MESSAGE_BYTES}
 */
export function encodeFrame(body: Uint8Array): Uint8Array {
  checkLength(body.length);
  const frame = new Uint8Array(FRAME_HEADER_BYTES + body.length);
  writeUint32(frame, 0, body.length);
  frame.set(body, FRAME_HEADER_BYTES);
  return frame;
}

/** Finds messages in a stream that arrives in pieces of any size. */
export class FrameDecoder {
  readonly #header = new Uint8Array(FRAME_HEADER_BYTES);
  #headerBytes = 0;
  #body: Uint8Array | null = null;
  #bodyBytes = 0;

  /** Whether the stream ended between two frames, which is the only clean place. */
  get isAtBoundary(): boolean {
    return this.#headerBytes === 0;
  }

  /**
   * Takes the next piece of the stream.
   *
   * @returns the bodies that it completes, in order
   * @throws {ProtocolError} when a length prefix is zero or too large; the stream cannot be read on
   */
  push(chunk: Uint8Array): Uint8Array[] {
    const bodies: Uint8Array[] = [];
    let offset = 0;
    while (offset < chunk.length) {
      offset +=
        this.#body === null ? this.#takeHeader(chunk, offset) : this.#takeBody(this.#body, chunk, offset);
      if (this.#body !== null && this.#bodyBytes === this.#body.length) {
        bodies.push(this.#body);
        this.#reset();
      }
    }
    return bodies;
  }

  #takeHeader(chunk: Uint8Array, offset: number): number {
    const taken = Math.min(FRAME_HEADER_BYTES - this.#headerBytes, chunk.length - offset);
    this.#header.set(chunk.subarray(offset, offset + taken), this.#headerBytes);
    this.#headerBytes += taken;
    if (this.#headerBytes === FRAME_HEADER_BYTES) {
      const length = readUint32(this.#header, 0);
      checkLength(length);
      this.#body = new Uint8Array(length);
    }
    return taken;
  }

  #takeBody(body: Uint8Array, chunk: Uint8Array, offset: number): number {
    const taken = Math.min(body.length - this.#bodyBytes, chunk.length - offset);
    body.set(chunk.subarray(offset, offset + taken), this.#bodyBytes);
    this.#bodyBytes += taken;
    return taken;
  }

  #reset(): void {
    this.#headerBytes = 0;
    this.#body = null;
    this.#bodyBytes = 0;
  }
}

function checkLength(length: number): void {
  if (length >= 1 && length <= MAX_CONTROL_MESSAGE_BYTES) return;
  throw new ProtocolError(
    `Cannot use a control message of "${length}" bytes: expected 1 to ${MAX_CONTROL_MESSAGE_BYTES}`,
  );
}
