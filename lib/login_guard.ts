/**
 * The doorkeeper of the control port: lists of networks, rates, and who is shut out after too many failures.
 *
 * One question for each step of a connection's way in: {@link LoginGuard.admit} when TCP connects, before TLS costs
 * anything; {@link LoginGuard.refusalFor} when the client says who it is; {@link LoginGuard.failed} and
 * {@link LoginGuard.succeeded} with the outcome. Pure; time is handed in.
 */

import { type AccessList, isAllowed } from "./access_list.ts";
import type { Refusal } from "./handshake.ts";
import { HandshakeLimiter, type HandshakeRates } from "./handshake_limiter.ts";
import { type Ban, Lockout, type MaxFailures } from "./lockout.ts";
import type { BanStatus } from "./status.ts";

/** Why a connection is cut off before TLS. */
export type DoorRefusal = "not-allowed" | "rate-limited";

/** State of the door. */
export class LoginGuard {
  readonly #limiter: HandshakeLimiter;
  readonly #lockout: Lockout;
  readonly #lists: () => AccessList;

  /** @param lists the networks that may connect at the moment */
  constructor(rates: HandshakeRates, lists: () => AccessList, nowMs: number, failures?: MaxFailures) {
    this.#lockout = new Lockout(failures);
    this.#limiter = new HandshakeLimiter(rates, nowMs);
    this.#lists = lists;
  }

  /** A TCP connection came from `address`. @returns why it is cut off at once; null to go on */
  admit(address: string, nowMs: number): DoorRefusal | null {
    if (!isAllowed(this.#lists(), address)) return "not-allowed";
    const banned = this.#lockout.isBanned(address, nowMs);
    return this.#limiter.take(address, banned, nowMs) ? null : "rate-limited";
  }

  /** What a client that says it is `user` is told before its password counts; null to go on. */
  refusalFor(user: string, address: string, nowMs: number): Refusal | null {
    const ban = this.#lockout.banFor(user, address, nowMs);
    if (ban === null) return null;
    const seconds = Math.ceil((ban.untilMs - nowMs) / 1000);
    const whose = ban.subject === "address" ? "from this address" : "for this user";
    return { code: "refused", reason: `Too many failed log-ins ${whose}: try again in ${seconds} s` };
  }

  /** A password or token was wrong; `user` is empty where none was named. @returns who is shut out from now on */
  failed(user: string, address: string, nowMs: number): readonly Ban[] {
    return this.#lockout.failed(user, address, nowMs);
  }

  /** The user proved who it is. */
  succeeded(user: string, address: string): void {
    this.#limiter.proven(address);
    this.#lockout.succeeded(user, address);
  }

  bans(nowMs: number): readonly Ban[] {
    return this.#lockout.bans(nowMs);
  }

  /** Lets an address or a user in again. @returns what was lifted */
  lift(value: string, nowMs: number): readonly Ban[] {
    return this.#lockout.lift(value, nowMs);
  }
}

/** A ban for the status. */
export function toBanStatus({ subject, value, untilMs }: Ban, nowMs: number): BanStatus {
  return { subject, value, secondsLeft: Math.ceil((untilMs - nowMs) / 1000) };
}
