/**
 * One control connection: whole messages and records over an established TLS socket, bounded in both directions.
 *
 * Received messages are pulled one at a time; when nobody pulls, the socket is paused and TCP holds the sender back.
 * Records are pushed, and their receiver says when it is behind.
 */

import type { TLSSocket } from "node:tls";
import { type HostPort, unmapAddress } from "./address.ts";
import { encodeFrame, FrameDecoder } from "./control_frame.ts";
import { OmailError, ProtocolError } from "./errors.ts";
import { CONTROL_CLOSE_MS, MAX_CONTROL_OUTPUT_BYTES, STREAM_UNSENT_BYTES } from "./limits.ts";
import { limitUnsent } from "./tcp_socket.ts";
import { type PeerCertificates, peerCertificates } from "./tls_peer.ts";

/** Messages kept for a receiver that is busy, before the socket is paused. */
const MAX_QUEUED_MESSAGES = 16;
/** TCP keep-alive: finds a peer that vanished while nothing is sent. */
const TCP_KEEPALIVE_MS = 15_000;
/** Bytes of an exporter value. */
const EXPORT_BYTES = 32;

/** Message bodies over TLS 1.3. Made by `tls_control.ts` when the TLS handshake is done. */
export class TlsConnection {
  /** The peer's TCP address. */
  readonly remote: HostPort;
  /** SHA-256 of the peer's certificate, upper-case hexadecimal with colons; null when it showed none. */
  readonly peerFingerprint: string | null;
  /** Resolves when the TCP connection is gone. */
  readonly closed: Promise<void>;
  readonly #socket: TLSSocket;
  readonly #decoder = new FrameDecoder();
  readonly #queue: Uint8Array[] = [];
  #waiting: ((body: Uint8Array | null) => void) | null = null;
  #failWaiting: ((error: unknown) => void) | null = null;
  #failure: Error | null = null;
  #ended = false;
  #closing = false;
  #onRecords: ((records: Uint8Array<ArrayBuffer>[]) => void) | null = null;
  #recordsHeldBack = false;
  /** Bytes of records that wait in the socket. */
  #recordBytesWaiting = 0;

  constructor(socket: TLSSocket) {
    this.#socket = socket;
    this.remote = { host: unmapAddress(socket.remoteAddress ?? ""), port: socket.remotePort ?? 0 };
    const certificate = socket.getPeerCertificate();
    this.peerFingerprint = certificate?.fingerprint256 ?? null;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, TCP_KEEPALIVE_MS);
    socket.on("data", (chunk: Uint8Array) => this.#received(chunk));
    socket.on("error", (error: Error) => this.#end(error));
    socket.on("end", () => this.#end(null));
    socket.on("close", () => this.#end(null));
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
  }

  /** The certificates that the peer showed. */
  peerCertificates(): PeerCertificates {
    return peerCertificates(this.#socket);
  }

  /** Whether no message can be sent any more. */
  get isClosed(): boolean {
    return this.#ended;
  }

  /**
   * The TLS exporter (RFC 8446, section 7.5).
   *
   * @returns 32 bytes
   * @throws {OmailError} when the connection is closed: Bun then exports nothing, and nothing must not become a key
   */
  exportKey(label: string, context: Uint8Array): Uint8Array<ArrayBuffer> {
    const exported: Uint8Array | undefined = this.#socket.exportKeyingMaterial(
      EXPORT_BYTES,
      label,
      Buffer.from(context),
    );
    if (exported?.length !== EXPORT_BYTES)
      throw new OmailError("The connection was closed during the log-in");
    return new Uint8Array(exported);
  }

  /**
   * Waits for the next message. Only one call at a time.
   *
   * @returns null when the peer has closed the connection, or we have
   * @throws {ProtocolError} when the peer sent a wrong length
   * @throws {Error} when the connection broke; system errors have a `code`
   */
  receive(): Promise<Uint8Array | null> {
    const queued = this.#queue.shift();
    if (queued !== undefined) {
      this.#flowOrPause();
      return Promise.resolve(queued);
    }
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (this.#ended) return Promise.resolve(null);
    return new Promise((resolve, reject) => {
      this.#waiting = resolve;
      this.#failWaiting = reject;
    });
  }

  /** Sends one message. A peer that does not read is cut off at {@link MAX_CONTROL_OUTPUT_BYTES}. */
  send(body: Uint8Array): void {
    if (this.#ended || this.#socket.destroyed) return;
    this.#socket.write(encodeFrame(body));
    const waiting = this.#socket.writableLength - this.#recordBytesWaiting;
    if (waiting <= MAX_CONTROL_OUTPUT_BYTES) return;
    this.#end(new ProtocolError(`The peer does not read: "${waiting}" bytes are waiting`));
    this.#socket.destroy();
  }

  /**
   * Registers the receiver of records, in order and with their headers; until then a record is a breach of the protocol.
   * Each call has all records that one read brought.
   */
  receiveRecords(receive: (records: Uint8Array<ArrayBuffer>[]) => void): void {
    this.#onRecords = receive;
    limitUnsent(this.#socket, STREAM_UNSENT_BYTES);
  }

  /** While true nothing is read, so that TCP holds the sender back. */
  holdBackRecords(hold: boolean): void {
    if (hold === this.#recordsHeldBack) return;
    this.#recordsHeldBack = hold;
    this.#flowOrPause();
  }

  /**
   * Sends record frames, prefixes included. The caller bounds what is on its way by `taken`, which tells that the
   * kernel has these bytes; it is not called when the connection ends before.
   */
  sendRecords(frames: Uint8Array, taken: () => void): void {
    if (this.#ended || this.#socket.destroyed) return;
    this.#recordBytesWaiting += frames.length;
    this.#socket.write(frames, (error?: Error | null) => {
      this.#recordBytesWaiting -= frames.length;
      if (error === undefined || error === null) taken();
    });
  }

  /**
   * Sends a last message, then closes; a peer that does not close its side within a second is cut off. Later calls of
   * this and of {@link destroy} change nothing.
   */
  close(lastBody: Uint8Array): void {
    if (this.#closing || this.#socket.destroyed) return;
    this.#closing = true;
    this.#socket.end(encodeFrame(lastBody));
    this.#end(null);
    const timer = setTimeout(() => this.#socket.destroy(), CONTROL_CLOSE_MS);
    this.#socket.once("close", () => clearTimeout(timer));
    // nothing more is read, but the end of the stream must be noticed
    this.#socket.resume();
  }

  /** Cuts the connection off, unless it closes by itself after {@link close}. */
  destroy(): void {
    this.#end(null);
    if (!this.#closing) this.#socket.destroy();
  }

  #received(chunk: Uint8Array): void {
    if (this.#ended) return;
    try {
      const frames = this.#decoder.push(chunk);
      const records = frames.filter(({ kind }) => kind === "record").map(({ body }) => body);
      if (records.length > 0) this.#deliverRecords(records);
      for (const { kind, body } of frames) if (kind === "message") this.#deliver(body);
    } catch (error) {
      this.#end(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    if (this.#queue.length >= MAX_QUEUED_MESSAGES) this.#socket.pause();
  }

  /** Reads on if nobody is behind. */
  #flowOrPause(): void {
    if (this.#ended) return;
    if (this.#recordsHeldBack) this.#socket.pause();
    else if (this.#queue.length === 0) this.#socket.resume();
  }

  #deliverRecords(records: Uint8Array<ArrayBuffer>[]): void {
    if (this.#onRecords === null) throw new ProtocolError("Cannot use a record now: expected a log-in first");
    this.#onRecords(records);
  }

  #deliver(body: Uint8Array): void {
    const waiting = this.#waiting;
    if (waiting === null) {
      this.#queue.push(body);
      return;
    }
    this.#waiting = null;
    this.#failWaiting = null;
    waiting(body);
  }

  #end(error: Error | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = error;
    const [resolve, reject] = [this.#waiting, this.#failWaiting];
    this.#waiting = null;
    this.#failWaiting = null;
    if (error === null) resolve?.(null);
    else reject?.(error);
  }
}
