/**
 * The records of one session on their way between the data plane and the control connection, bounded both ways.
 *
 * Out: the data plane has a window of bytes and gets them back as the kernel takes them (`tunnel-drained`); what is
 * beyond the window never gets here. In: the data plane gives back what it has taken (`tunnel-taken`); when it is
 * behind, the connection is not read, so that TCP holds the peer back. A record is handed over under the session of the
 * connection that it came by, and under no other.
 */

import type { DataPlanePort, TunnelOut, TunnelTaken } from "./data_plane_message.ts";
import { STREAM_IN_FLIGHT_BYTES } from "./limits.ts";
import type { TlsConnection } from "./tls_connection.ts";

/** One connection's records. A later one for the same session takes its place. */
export class RecordStream {
  readonly #connection: TlsConnection;
  readonly #dataPlane: DataPlanePort;
  readonly #sessionId: number;
  #inFlightBytes = 0;
  #open = true;

  /**
   * Opens the stream; the data plane has the session.
   *
   * @param heard called for everything that comes in: a sign of life
   */
  constructor(connection: TlsConnection, dataPlane: DataPlanePort, sessionId: number, heard: () => void) {
    this.#connection = connection;
    this.#dataPlane = dataPlane;
    this.#sessionId = sessionId;
    connection.receiveRecords((records) => {
      heard();
      this.#in(records);
    });
    dataPlane.post({ kind: "set-stream", id: sessionId, up: true });
  }

  /** Carries out a message of the data plane; one for another session changes nothing. */
  fromDataPlane(message: TunnelOut | TunnelTaken): void {
    if (message.id !== this.#sessionId) return;
    if (message.kind === "tunnel-out") this.#send(message.frames);
    else this.#taken(message.bytes);
  }

  /** Passes nothing on any more. @param replaced another stream has taken the session over already */
  close(replaced: boolean): void {
    if (!this.#open) return;
    this.#open = false;
    if (!replaced) this.#dataPlane.post({ kind: "set-stream", id: this.#sessionId, up: false });
  }

  #send(frames: Uint8Array<ArrayBuffer>): void {
    const bytes = frames.length;
    this.#connection.sendRecords(frames, () => {
      if (this.#open) this.#dataPlane.post({ kind: "tunnel-drained", id: this.#sessionId, bytes });
    });
  }

  #taken(bytes: number): void {
    this.#inFlightBytes = Math.max(0, this.#inFlightBytes - bytes);
    if (this.#inFlightBytes <= STREAM_IN_FLIGHT_BYTES / 2) this.#connection.holdBackRecords(false);
  }

  #in(records: Uint8Array<ArrayBuffer>[]): void {
    if (!this.#open) return;
    for (const { length } of records) this.#inFlightBytes += length;
    this.#dataPlane.post({ kind: "tunnel-in", id: this.#sessionId, records });
    if (this.#inFlightBytes > STREAM_IN_FLIGHT_BYTES) this.#connection.holdBackRecords(true);
  }
}
