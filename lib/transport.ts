/**
 * A client's choice between UDP and the TLS stream for its records, made from what was answered on which path.
 *
 * Pure: told what was sent, answered and when, it says which keep-alives to send and when to move. The rules:
 *
 *  - Both paths are judged by keep-alives that want an answer ("asks"). The path in use is asked every keep-alive
 *    interval, and every second while data flows; one that does not answer is asked several times a second.
 *  - UDP that does not answer is left only when the stream answers meanwhile: an outage of both moves nothing.
 *  - While the stream is in use UDP is asked on, and taken again after two answers. A UDP that fails soon after such a
 *    return has to wait longer before the next one, so that a path that half works does not make the session flap.
 *
 * The server has no choice to make: it answers on the path of the newest record (`docs/protocol.md`, Endpoint).
 */

import type { TransportChoice, TransportName } from "./data_plane_message.ts";

/** Longest time between two asks while data flows. */
const BUSY_ASK_MS = 1_000;
/** UDP that never answered is left after this time, one that did after the longer: it may come back. */
const DEAD_AT_START_MS = 1_000;
const DEAD_MS = 2_000;
/** A path is suspect after this part of the time to its death, and is asked so often until then. */
const SUSPECT_PART = 1 / 4;
const ASK_PART = 1 / 8;
/** Asking UDP while the stream is in use: often at first, then at a pace that costs nothing. */
const RETURN_ASK_MS = 500;
const RETURN_ASK_QUICK_FOR_MS = 15_000;
const RETURN_ASK_SLOW_MS = 5_000;
/** Answers in a row that make UDP usable again. */
const RETURN_ANSWERS = 2;
/** UDP that fails within this time of a return is one that half works. */
const FLAP_MS = 30_000;
const FLAP_HOLD_MS = 5_000;
const FLAP_HOLD_MAX_MS = 20_000;

/** What one call of {@link ClientTransport.tick} asks for. */
export interface TransportSteps {
  /** Paths on which a keep-alive that wants an answer should leave now. */
  readonly ask: readonly TransportName[];
  /** The path in use has changed, and why. */
  readonly moved: { readonly to: TransportName; readonly reason: string } | null;
}

/** What is known of one path. Times are monotonic milliseconds. */
interface Path {
  answeredMs: number;
  lastAskMs: number;
  /** The first ask after the last answer; null when nothing is owed. */
  owedSinceMs: number | null;
  /** Answers since the path was last left, or owed for too long. */
  answersInRow: number;
}

/** The paths of one session, seen from the client. */
export class ClientTransport {
  readonly #choice: TransportChoice;
  readonly #keepaliveMs: number;
  readonly #paths: Readonly<Record<TransportName, Path>> = { udp: newPath(), tcp: newPath() };
  #current: TransportName;
  #streamUp = false;
  #sentMs = -Infinity;
  #movedMs = -Infinity;
  #returnedMs = -Infinity;
  #holdMs = 0;

  constructor(choice: TransportChoice, keepaliveMs: number) {
    this.#choice = choice;
    this.#keepaliveMs = keepaliveMs;
    this.#current = choice === "tcp" ? "tcp" : "udp";
  }

  /** The path of data. With `tcp` chosen it stays the stream also while there is none. */
  get current(): TransportName {
    return this.#current;
  }

  /** The TLS stream came or went. Of a new one nothing is known. */
  streamChanged(up: boolean): void {
    this.#streamUp = up;
    Object.assign(this.#paths.tcp, newPath());
  }

  /** Data was sent on the path in use. */
  sent(nowMs: number): void {
    this.#sentMs = nowMs;
  }

  /** A keep-alive that wants an answer was sent on `name`. */
  asked(name: TransportName, nowMs: number): void {
    const path = this.#paths[name];
    path.lastAskMs = nowMs;
    path.owedSinceMs ??= nowMs;
  }

  /** A keep-alive came back on `name` that answers one of ours on the same path. */
  answered(name: TransportName, nowMs: number): void {
    const path = this.#paths[name];
    path.answeredMs = nowMs;
    path.owedSinceMs = null;
    path.answersInRow += 1;
  }

  /** Something may have changed (the machine slept, an address came or went): every path is asked at the next tick. */
  doubt(): void {
    for (const path of Object.values(this.#paths)) {
      path.lastAskMs = -Infinity;
      path.answeredMs = -Infinity;
    }
  }

  /** What is due now. Call it several times a second. */
  tick(nowMs: number): TransportSteps {
    const { udp } = this.#paths;
    if (udp.owedSinceMs !== null && nowMs - udp.owedSinceMs >= RETURN_ASK_SLOW_MS) udp.answersInRow = 0;
    const moved = this.#choice === "auto" ? this.#move(nowMs) : null;
    const ask = (["udp", "tcp"] as const).filter((name) => this.#isDue(name, nowMs));
    return { ask, moved };
  }

  #move(nowMs: number): TransportSteps["moved"] {
    const { udp, tcp } = this.#paths;
    if (this.#current === "udp") {
      const owedMs = udp.owedSinceMs === null ? 0 : nowMs - udp.owedSinceMs;
      if (!this.#streamUp || owedMs < this.#deadMs(udp) || tcp.answeredMs < (udp.owedSinceMs ?? nowMs))
        return null;
      return this.#moveTo("tcp", `UDP does not answer for ${Math.round(owedMs)} ms, TLS does`, nowMs);
    }
    if (!this.#streamUp) return this.#moveTo("udp", "the control connection was lost", nowMs);
    if (udp.answersInRow === 0 || udp.answeredMs < this.#movedMs) return null;
    if (tcp.owedSinceMs !== null && nowMs - tcp.owedSinceMs >= this.#deadMs(tcp))
      return this.#moveTo("udp", "TLS does not answer, UDP does", nowMs);
    if (udp.answersInRow < RETURN_ANSWERS || nowMs - this.#movedMs < this.#holdMs) return null;
    return this.#moveTo("udp", "UDP answers again", nowMs);
  }

  #moveTo(to: TransportName, reason: string, nowMs: number): TransportSteps["moved"] {
    if (to === "tcp") {
      const flaps = nowMs - this.#returnedMs < FLAP_MS;
      this.#holdMs = flaps ? Math.min(FLAP_HOLD_MAX_MS, Math.max(FLAP_HOLD_MS, 2 * this.#holdMs)) : 0;
      this.#paths.udp.answersInRow = 0;
    } else this.#returnedMs = nowMs;
    this.#current = to;
    this.#movedMs = nowMs;
    return { to, reason };
  }

  /** Life is known within two keep-alives: with a short interval less patience is left. */
  #deadMs(path: Path): number {
    if (path.answeredMs === -Infinity || this.#keepaliveMs < 2 * DEAD_MS) return DEAD_AT_START_MS;
    return DEAD_MS;
  }

  #isDue(name: TransportName, nowMs: number): boolean {
    if (name === "tcp" && (!this.#streamUp || this.#choice === "udp")) return false;
    if (name === "udp" && this.#choice === "tcp") return false;
    const everyMs = name === this.#current ? this.#ownAskMs(name, nowMs) : this.#otherAskMs(name, nowMs);
    return everyMs !== null && nowMs - this.#paths[name].lastAskMs >= everyMs;
  }

  /** Between two asks of the path in use. */
  #ownAskMs(name: TransportName, nowMs: number): number {
    const path = this.#paths[name];
    if (this.#isSuspect(path, nowMs)) return this.#deadMs(path) * ASK_PART;
    return this.#sentMs > path.answeredMs ? Math.min(BUSY_ASK_MS, this.#keepaliveMs) : this.#keepaliveMs;
  }

  /** Between two asks of the other path: the stream only while UDP is in doubt. */
  #otherAskMs(name: TransportName, nowMs: number): number | null {
    const { udp } = this.#paths;
    const quickMs = this.#deadMs(udp) * ASK_PART;
    if (name === "tcp") return this.#isSuspect(udp, nowMs) ? quickMs : null;
    if (udp.answersInRow > 0) return quickMs;
    return nowMs - this.#movedMs < RETURN_ASK_QUICK_FOR_MS ? RETURN_ASK_MS : RETURN_ASK_SLOW_MS;
  }

  #isSuspect(path: Path, nowMs: number): boolean {
    if (path.answeredMs === -Infinity) return true;
    return path.owedSinceMs !== null && nowMs - path.owedSinceMs >= this.#deadMs(path) * SUSPECT_PART;
  }
}

function newPath(): Path {
  return { answeredMs: -Infinity, lastAskMs: -Infinity, owedSinceMs: null, answersInRow: 0 };
}
