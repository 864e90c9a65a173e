/**
 * One peer of the data plane: its epochs, its counters, its replay windows, and when it must speak.
 *
 * Pure state: it takes sequence numbers, messages and the time, and says what follows. Order of keys (docs/protocol.md):
 * the receiving key of a new epoch works from its installation; the sending key from then on too (`sendNow`, the side
 * that was told that the peer has it) or from the first record opened under it, which proves the same.
 */

import type { HostPort } from "./address.ts";
import type { TransportName } from "./data_plane_message.ts";
import type { RecordKey } from "./engine.ts";
import type { Keepalive } from "./keepalive.ts";
import {
  EPOCH_OVERLAP_MS,
  MAX_LIVE_EPOCHS,
  REASSEMBLY_TIMEOUT_MS,
  recordLimitFor,
  REJECT_AFTER_RECORDS,
  REKEY_AFTER_RECORDS,
} from "./limits.ts";
import { LossReports } from "./loss_report.ts";
import type { RateShaper } from "./rate_limit.ts";
import { Reassembly } from "./reassembly.ts";
import { RecordLimit } from "./record_limit.ts";
import { ReplayWindow } from "./replay_window.ts";
import { SessionPath } from "./session_path.ts";

/** Time between two tries to prove a new epoch to the peer: a lost keep-alive must not delay the first packet long. */
const CONFIRM_EVERY_MS = 200;

/** The keys of one epoch in the engine's form, seen from this end; salts have 4 bytes. */
export interface RecordKeys {
  readonly epoch: number;
  readonly sendKey: RecordKey;
  readonly receiveKey: RecordKey;
  readonly sendSalt: Uint8Array;
  readonly receiveSalt: Uint8Array;
}

/** Keys and counter of one direction, ours to the peer. */
export interface SendingEpoch {
  readonly epoch: number;
  readonly key: RecordKey;
  readonly salt: Uint8Array;
  /** The next sequence number; never goes back. */
  sequence: number;
  /** The wish for a new epoch was already reported. */
  rekeyReported: boolean;
}

/** Keys and replay window of one direction, the peer's to us. */
export interface ReceivingEpoch {
  readonly epoch: number;
  readonly key: RecordKey;
  readonly salt: Uint8Array;
  readonly window: ReplayWindow;
  /** A record of this epoch was opened. */
  confirmed: boolean;
  /** Time from which records of this epoch are no longer opened. */
  endsAtMs: number;
}

/** The state of one peer; counters are plain fields that the packet path adds to. */
export class Session {
  readonly id: number;
  readonly peerOffload: boolean;
  readonly reassembly = new Reassembly();
  readonly outerPath: SessionPath;
  endpoint: HostPort | null;
  #path: TransportName = "udp";
  /** Take the path of the peer's newest record (a server), or leave the choice to `session_paths.ts` (a client). */
  followsPath = false;
  sending: SendingEpoch | null = null;
  rxBytes = 0;
  txBytes = 0;
  rxPackets = 0;
  txPackets = 0;
  txRecords = 0;
  rttMs: number | null = null;
  lossPercent = 0;
  /** Largest plaintext of one record to this peer; moves with the loss that it reports. */
  recordLimit: number;
  /** Send parity along with each record; moves with the limit. */
  parity = false;
  /** Loss events per datagram on the way to the peer, as they are now, 0 to 1. */
  pathLoss = 0;
  /** Records opened of which a datagram was lost and restored. */
  recordsRestored = 0;
  /** When to tell the peer what was lost on its way to us. */
  readonly lossReports = new LossReports();
  lastReceivedMs: number | null = null;
  /** Limits of speed, null where there is none: `up` for what the peer sends us, `down` for what we send. */
  up: RateShaper | null = null;
  down: RateShaper | null = null;
  removed = false;
  /** We dropped what the peer sent because we could not keep up: the loss is not the path's. */
  overloaded = false;
  /** Our network has changed, and nothing shows yet that the peer knows. */
  tellsNewPath = false;

  readonly #limit: RecordLimit;
  /** The datagram size that the limit goes by. */
  #datagramBytes: number;
  readonly #streamLimit: number;
  readonly #keepaliveMs: number;
  readonly #receiving: ReceivingEpoch[] = [];
  #waiting: SendingEpoch | null = null;
  #lastKeepaliveMs = -Infinity;
  #lastConfirmTryMs = -Infinity;
  /** Epoch and sequence of the record that placed the endpoint: an older record must not move it back. */
  #newestEpoch = -1;
  #newestSequence = -1;
  #candidate: { readonly endpoint: HostPort; readonly sinceMs: number } | null = null;
  #peerEcho: { sentAtUs: number; atMs: number } | null = null;
  /** Records of epochs that are gone. */
  #pastSeen = 0;
  #pastExpected = 0;
  #lossSeen = 0;
  #lossExpected = 0;

  constructor(
    id: number,
    peerOffload: boolean,
    endpoint: HostPort | null,
    keepaliveMs: number,
    maxDatagramBytes: number,
    nowMs: number,
    cheapRecords = false,
  ) {
    this.id = id;
    this.outerPath = new SessionPath(maxDatagramBytes, nowMs);
    this.#datagramBytes = this.outerPath.maxDatagramBytes;
    this.#limit = new RecordLimit(this.#datagramBytes, cheapRecords);
    this.recordLimit = this.#limit.limit;
    this.#streamLimit = recordLimitFor(maxDatagramBytes);
    this.peerOffload = peerOffload;
    this.endpoint = endpoint;
    this.#keepaliveMs = keepaliveMs;
  }

  /** Records opened since the session began. */
  get recordsSeen(): number {
    return this.#receiving.reduce((sum, epoch) => sum + epoch.window.marked, this.#pastSeen);
  }

  /** Records that the peer must have sent, by the sequence numbers seen. */
  get recordsExpected(): number {
    return this.#receiving.reduce((sum, epoch) => sum + epoch.window.next, this.#pastExpected);
  }

  /** Records of the peer that lost a datagram on the way, and with it mostly themselves. */
  get recordsHit(): number {
    return this.recordsExpected - this.recordsSeen + this.recordsRestored;
  }

  /** Installs the keys of a new epoch; an epoch that is already here is left alone. */
  installEpoch(keys: RecordKeys, sendNow: boolean): void {
    if (this.findEpoch(keys.epoch) !== undefined) return;
    this.#receiving.push({
      epoch: keys.epoch,
      key: keys.receiveKey,
      salt: keys.receiveSalt,
      window: new ReplayWindow(),
      confirmed: false,
      endsAtMs: Infinity,
    });
    if (this.#receiving.length > MAX_LIVE_EPOCHS) this.#forgetEpoch(this.#receiving[0]!);
    const sending: SendingEpoch = {
      epoch: keys.epoch,
      key: keys.sendKey,
      salt: keys.sendSalt,
      sequence: 0,
      rekeyReported: false,
    };
    if (sendNow) this.sending = sending;
    else this.#waiting = sending;
  }

  findEpoch(epoch: number): ReceivingEpoch | undefined {
    // newest first: nearly every record is of the newest epoch
    for (let i = this.#receiving.length - 1; i >= 0; i--) {
      if (this.#receiving[i]!.epoch === epoch) return this.#receiving[i];
    }
    return undefined;
  }

  /** The next sequence number of `sending` for a record of so many datagrams, parities among them, or -1 when its key has sealed all it may. */
  takeSequence(sending: SendingEpoch, datagrams: number, parity = false): number {
    if (sending.sequence >= REJECT_AFTER_RECORDS) return -1;
    this.txRecords++;
    this.#limit.recordSent(datagrams, parity);
    return sending.sequence++;
  }

  /** Lets the limit of a record follow the datagram size; to be called after {@link outerPath} may have changed. */
  followPath(): void {
    if (this.outerPath.maxDatagramBytes === this.#datagramBytes) return;
    this.#datagramBytes = this.outerPath.maxDatagramBytes;
    this.#limit.setMaxDatagramBytes(this.#datagramBytes);
    if (this.#path === "udp") this.recordLimit = this.#limit.limit;
  }

  /** Whether to ask for a new epoch now; true once per epoch. */
  takeRekeyWish(): boolean {
    const sending = this.sending;
    if (sending === null || sending.rekeyReported || sending.sequence < REKEY_AFTER_RECORDS) return false;
    sending.rekeyReported = true;
    return true;
  }

  /** Whether pieces from this address may occupy memory: the peer's address, or one candidate for a new one. */
  admitsPieces(from: HostPort, nowMs: number): boolean {
    if (isSame(this.endpoint, from)) return true;
    const candidate = this.#candidate;
    if (candidate !== null && nowMs - candidate.sinceMs < REASSEMBLY_TIMEOUT_MS) {
      return isSame(candidate.endpoint, from);
    }
    this.#candidate = { endpoint: from, sinceMs: nowMs };
    return true;
  }

  /**
   * Takes note of a record whose tag was verified.
   *
   * @returns "replayed", or "confirmed" for the first record of its epoch, or "opened"
   */
  recordOpened(epoch: ReceivingEpoch, sequence: number, nowMs: number): "replayed" | "confirmed" | "opened" {
    if (!epoch.window.mark(sequence)) return "replayed";
    this.lastReceivedMs = nowMs;
    if (epoch.confirmed) return "opened";
    epoch.confirmed = true;
    if (this.#waiting?.epoch === epoch.epoch) {
      this.sending = this.#waiting;
      this.#waiting = null;
    }
    const index = this.#receiving.indexOf(epoch);
    for (const older of this.#receiving.slice(0, Math.max(0, index))) {
      older.endsAtMs = Math.min(older.endsAtMs, nowMs + EPOCH_OVERLAP_MS);
    }
    return "confirmed";
  }

  /** What carries what we send. */
  get path(): TransportName {
    return this.#path;
  }

  /** Sends by `path` from now on. A stream loses nothing, so its records are as large as can be. */
  usePath(path: TransportName): void {
    if (path === this.#path) return;
    this.#path = path;
    this.recordLimit = path === "tcp" ? this.#streamLimit : this.#limit.limit;
  }

  /**
   * Moves the endpoint, and the path if it follows the peer's, if this record is the newest so far.
   *
   * @param from sender of the datagrams; null for a record of the TLS stream
   * @returns whether the endpoint moved
   */
  placeEndpoint(epoch: number, sequence: number, from: HostPort | null): boolean {
    if (epoch < this.#newestEpoch || (epoch === this.#newestEpoch && sequence <= this.#newestSequence))
      return false;
    this.#newestEpoch = epoch;
    this.#newestSequence = sequence;
    if (this.followsPath) this.usePath(from === null ? "tcp" : "udp");
    if (from === null) return false;
    if (isSame(this.endpoint, from)) return false;
    this.endpoint = from;
    this.#candidate = null;
    return true;
  }

  /** Takes note of a keep-alive message. @returns whether the peer wants an answer at once */
  keepaliveReceived(message: Keepalive, nowMs: number): boolean {
    this.#peerEcho = { sentAtUs: message.sentAtUs, atMs: nowMs };
    if (message.echo !== null) {
      const rttUs = (wrapUs(nowMs) - message.echo.sentAtUs - message.echo.delayUs) >>> 0;
      // a peer that lies, or a clock that wrapped twice, must not become a figure
      if (rttUs < 60_000_000) this.rttMs = rttUs / 1000;
    }
    const recordsSeen = this.outerPath.reported(message.recordsSeen, message.recordsExpected, nowMs);
    const taken = this.#limit.reported({ ...message, recordsSeen }, nowMs);
    this.parity = this.#limit.parity;
    this.pathLoss = this.#limit.lossNow;
    if (taken && this.#path === "udp") this.recordLimit = this.#limit.limit;
    this.#measureLoss();
    return message.replyWanted;
  }

  /** The keep-alive message to send now; the next one is due a whole interval later. */
  keepaliveMessage(replyWanted: boolean, nowMs: number, probe = false): Keepalive {
    this.#lastKeepaliveMs = nowMs;
    this.lossReports.sent(this.recordsHit, nowMs);
    const overloaded = this.overloaded;
    this.overloaded = false;
    const echo = this.#peerEcho;
    return {
      replyWanted,
      probe,
      sentAtUs: wrapUs(nowMs),
      echo: echo === null ? null : { sentAtUs: echo.sentAtUs, delayUs: wrapUs(nowMs - echo.atMs) },
      recordsSeen: this.recordsSeen,
      recordsExpected: this.recordsExpected,
      recordsRestored: this.recordsRestored,
      overloaded,
      newPath: this.tellsNewPath,
    };
  }

  /**
   * What is due: forgets old epochs, and says whether to send a keep-alive.
   *
   * A keep-alive goes out every interval, busy or idle: besides life it carries round trip and loss.
   *
   * @returns "confirm" to prove a new epoch (wants an answer), "keepalive", or null for nothing
   */
  tick(nowMs: number): "confirm" | "keepalive" | null {
    while (this.#receiving[0] !== undefined && this.#receiving[0].endsAtMs <= nowMs)
      this.#forgetEpoch(this.#receiving[0]);
    if (this.sending === null || (this.endpoint === null && this.path === "udp")) return null;
    if (
      this.findEpoch(this.sending.epoch)?.confirmed === false &&
      nowMs - this.#lastConfirmTryMs >= CONFIRM_EVERY_MS
    ) {
      this.#lastConfirmTryMs = nowMs;
      return "confirm";
    }
    return nowMs - this.#lastKeepaliveMs >= this.#keepaliveMs ? "keepalive" : null;
  }

  #forgetEpoch(epoch: ReceivingEpoch): void {
    this.#pastSeen += epoch.window.marked;
    this.#pastExpected += epoch.window.next;
    this.#receiving.splice(this.#receiving.indexOf(epoch), 1);
  }

  #measureLoss(): void {
    const expected = this.recordsExpected - this.#lossExpected;
    const seen = this.recordsSeen - this.#lossSeen;
    this.lossPercent = expected > 0 ? Math.max(0, (100 * (expected - seen)) / expected) : 0;
    this.#lossExpected += expected;
    this.#lossSeen += seen;
  }
}

/** Whether two endpoints are one; a socket gives the same object for the same peer, mostly. */
function isSame(a: HostPort | null, b: HostPort): boolean {
  return a === b || (a !== null && a.port === b.port && a.host === b.host);
}

/** Milliseconds to microseconds modulo 2^32. */
function wrapUs(ms: number): number {
  return Math.floor(ms * 1000) >>> 0;
}
