/** One record between numbering and transmission: what the engine needs to seal it, and what the way out needs to send it. */

import type { HostPort } from "./address.ts";
import type { RecordJob, RecordKey } from "./engine.ts";
import { HEADER_BYTES } from "./limits.ts";
import type { SendingEpoch, Session } from "./session.ts";

/** The way of a message of our own: to an address, or by the TLS stream. */
export type MessageWay = HostPort | "stream";

/** Who is told that the engine is done with a record. */
export interface SealedJobs {
  sealed(job: SealJob): void;
}

/** One record on its way from numbering to transmission. */
export class SealJob implements RecordJob {
  readonly key: RecordKey;
  readonly salt: Uint8Array;
  readonly session: Session;
  readonly header = new Uint8Array(HEADER_BYTES);
  readonly plaintextBytes: number;
  readonly pieces: number;
  /** Groups whose parity goes with it; 0 for none. */
  readonly parityGroups: number;
  /** Where a message of our own goes, at once and past the queue; null for packets, which go where the session says. */
  readonly aside: MessageWay | null;
  body: Uint8Array<ArrayBuffer> | null = null;
  tag: Uint8Array | null = null;
  failed = false;
  readonly #owner: SealedJobs;

  constructor(
    owner: SealedJobs,
    session: Session,
    sending: SendingEpoch,
    plaintextBytes: number,
    pieces: number,
    parityGroups: number,
    aside: MessageWay | null,
  ) {
    this.#owner = owner;
    this.session = session;
    this.key = sending.key;
    this.salt = sending.salt;
    this.plaintextBytes = plaintextBytes;
    this.pieces = pieces;
    this.parityGroups = parityGroups;
    this.aside = aside;
  }

  settled(): void {
    this.#owner.sealed(this);
  }
}
