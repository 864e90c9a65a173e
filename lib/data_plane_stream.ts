/**
 * The way of records into the TLS stream: frames for the control connection, gathered into few messages.
 *
 * What one session may have on its way is bounded by its window (`session_paths.ts`); nothing waits here beyond the turn
 * of the event loop in which it was sealed.
 */

import type { Clock } from "./clock.ts";
import { FRAME_HEADER_BYTES, writeRecordFrameHeader } from "./control_frame.ts";
import type { TunnelOut } from "./data_plane_message.ts";
import { HEADER_BYTES, MAX_RECORD_BYTES } from "./limits.ts";
import type { SessionPaths } from "./session_paths.ts";

/** Bytes of one message to the control plane. */
const BATCH_BYTES = 128 * 1024;
const MAX_FRAME_BYTES = FRAME_HEADER_BYTES + HEADER_BYTES + MAX_RECORD_BYTES;

/** Gathers frames of one session at a time. */
export class StreamOutput {
  readonly #emit: (message: TunnelOut) => void;
  readonly #clock: Clock;
  readonly #batch = new Uint8Array(BATCH_BYTES + MAX_FRAME_BYTES);
  #batchBytes = 0;
  #id = 0;

  constructor(emit: (message: TunnelOut) => void, clock: Clock) {
    this.#emit = emit;
    this.#clock = clock;
  }

  /**
   * Takes a record, which is copied: its header, and its ciphertext with the tag behind it unless `tag` is given.
   *
   * @param urgent a keep-alive: it must get through when data waits, and is small
   * @returns "full" when the session's window has no room, "failed" when it has no stream
   */
  push(
    id: number,
    paths: SessionPaths,
    header: Uint8Array,
    body: Uint8Array,
    tag: Uint8Array | null,
    urgent: boolean,
  ): "sent" | "full" | "failed" {
    if (!paths.streamUp) return "failed";
    const length = HEADER_BYTES + body.length + (tag === null ? 0 : tag.length);
    if (!paths.window.take(FRAME_HEADER_BYTES + length, this.#clock.monotonicMs()) && !urgent) return "full";
    if (id !== this.#id) this.flush();
    this.#id = id;
    const at = this.#batchBytes;
    writeRecordFrameHeader(this.#batch, at, length);
    this.#batch.set(header, at + FRAME_HEADER_BYTES);
    this.#batch.set(body, at + FRAME_HEADER_BYTES + HEADER_BYTES);
    if (tag !== null) this.#batch.set(tag, at + FRAME_HEADER_BYTES + HEADER_BYTES + body.length);
    this.#batchBytes = at + FRAME_HEADER_BYTES + length;
    if (this.#batchBytes >= BATCH_BYTES) this.flush();
    return "sent";
  }

  /** Sends what was gathered. */
  flush(): void {
    if (this.#batchBytes === 0) return;
    const frames = this.#batch.slice(0, this.#batchBytes);
    this.#batchBytes = 0;
    this.#emit({ kind: "tunnel-out", id: this.#id, frames });
  }
}
