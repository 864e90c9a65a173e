/**
 * Frames of the control channel: a u32 big-endian, then that many bytes of one message; with the top bit set, of one
 * sealed record of the data channel that cannot travel by UDP.
 *
 * Pure: bytes in, bodies out. The length is judged before a byte of the body is kept.
 */

import { readUint32, writeUint32 } from "./bytes.ts";
import { MessageLengthError, ProtocolError } from "./errors.ts";
import { HEADER_BYTES, MAX_CONTROL_MESSAGE_BYTES, MAX_RECORD_BYTES, TAG_BYTES } from "./limits.ts";

/** Length prefix of every frame. */
export const FRAME_HEADER_BYTES = 4;
/** Bit of the prefix that tells a record from a message. */
const RECORD_BIT = 0x8000_0000;
/** A record of one byte and the largest one, each behind the header of its first piece. */
const MIN_RECORD_FRAME_BYTES = HEADER_BYTES + TAG_BYTES + 1;
const MAX_RECORD_FRAME_BYTES = HEADER_BYTES + MAX_RECORD_BYTES;

/** One whole frame of a stream. */
export interface Frame {
  readonly kind: "message" | "record";
  /** A message, or a record: header of piece 0 and all sealed bytes. Nobody else holds it. */
  readonly body: Uint8Array<ArrayBuffer>;
}

/**
 * Puts the length in front of a message.
 *
 * @throws {ProtocolError} when the message is empty or longer than {@link MAX_CONTROL_MESSAGE_BYTES}
 */
export function encodeFrame(body: Uint8Array): Uint8Array {
  checkMessageLength(body.length);
  const frame = new Uint8Array(FRAME_HEADER_BYTES + body.length);
  writeUint32(frame, 0, body.length);
  frame.set(body, FRAME_HEADER_BYTES);
  return frame;
}

/** Writes the prefix of a record of `length` bytes, header included, at `offset`. */
export function writeRecordFrameHeader(bytes: Uint8Array, offset: number, length: number): void {
  writeUint32(bytes, offset, RECORD_BIT + length);
}

/** Finds frames in a stream that arrives in pieces of any size. */
export class FrameDecoder {
  readonly #header = new Uint8Array(FRAME_HEADER_BYTES);
  #headerBytes = 0;
  #kind: Frame["kind"] = "message";
  #body: Uint8Array<ArrayBuffer> | null = null;
  #bodyBytes = 0;

  /** Whether the stream ended between two frames, which is the only clean place. */
  get isAtBoundary(): boolean {
    return this.#headerBytes === 0;
  }

  /**
   * Takes the next piece of the stream.
   *
   * @returns the frames that it completes, in order
   * @throws {ProtocolError} when a length is impossible; the stream cannot be read on
   */
  push(chunk: Uint8Array): Frame[] {
    const frames: Frame[] = [];
    let offset = 0;
    while (offset < chunk.length) {
      offset +=
        this.#body === null ? this.#takeHeader(chunk, offset) : this.#takeBody(this.#body, chunk, offset);
      if (this.#body !== null && this.#bodyBytes === this.#body.length) {
        frames.push({ kind: this.#kind, body: this.#body });
        this.#reset();
      }
    }
    return frames;
  }

  #takeHeader(chunk: Uint8Array, offset: number): number {
    const taken = Math.min(FRAME_HEADER_BYTES - this.#headerBytes, chunk.length - offset);
    this.#header.set(chunk.subarray(offset, offset + taken), this.#headerBytes);
    this.#headerBytes += taken;
    if (this.#headerBytes === FRAME_HEADER_BYTES) {
      const prefix = readUint32(this.#header, 0);
      this.#kind = prefix < RECORD_BIT ? "message" : "record";
      const length = this.#kind === "message" ? prefix : prefix - RECORD_BIT;
      if (this.#kind === "message") checkMessageLength(length);
      else checkRecordLength(length);
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

function checkMessageLength(length: number): void {
  if (length >= 1 && length <= MAX_CONTROL_MESSAGE_BYTES) return;
  throw new MessageLengthError(length, MAX_CONTROL_MESSAGE_BYTES);
}

function checkRecordLength(length: number): void {
  if (length >= MIN_RECORD_FRAME_BYTES && length <= MAX_RECORD_FRAME_BYTES) return;
  throw new ProtocolError(
    `Cannot use a record of "${length}" bytes in a frame: expected ${MIN_RECORD_FRAME_BYTES} to ${MAX_RECORD_FRAME_BYTES}`,
  );
}
