/** One-time codes as a second factor: TOTP (RFC 6238) by otpauth, with the replay check of its section 5.2. */

import { Secret, TOTP } from "otpauth";

/** Bytes of a secret: RFC 4226, section 4 recommends 160 bits. */
export const TOTP_SECRET_BYTES = 20;
/** RFC 6238's default time step; every authenticator app knows it. */
const STEP_SECONDS = 30;
const DIGITS = 6;
/** Steps before and after the present one whose codes are taken: clocks differ, and people type (RFC 6238, section 5.2). */
const WINDOW_STEPS = 1;

/**
 * Judges a code.
 *
 * @param lastStep newest step whose code was used before; codes of it and of older ones are refused
 * @param wallMs milliseconds since the Unix epoch
 * @returns the time step of the code, which becomes the next `lastStep`; null when the code is wrong or was used
 */
export function acceptTotp(
  secret: Uint8Array<ArrayBuffer>,
  lastStep: number,
  code: string,
  wallMs: number,
): number | null {
  const token = code.replaceAll(" ", "");
  if (!/^[0-9]{6}$/.test(token)) return null;
  const delta = totpOf(secret, "").validate({ token, timestamp: wallMs, window: WINDOW_STEPS });
  if (delta === null) return null;
  const step = Math.floor(wallMs / 1000 / STEP_SECONDS) + delta;
  return step > lastStep ? step : null;
}

/** The `otpauth://` address that an authenticator app takes, as text or as a QR code. It holds the secret. */
export function totpUri(secret: Uint8Array<ArrayBuffer>, user: string): string {
  return totpOf(secret, user).toString();
}

/** The code of a moment. */
export function totpCode(secret: Uint8Array<ArrayBuffer>, wallMs: number): string {
  return totpOf(secret, "").generate({ timestamp: wallMs });
}

function totpOf(secret: Uint8Array<ArrayBuffer>, label: string): TOTP {
  const { buffer } = Uint8Array.from(secret);
  return new TOTP({
    issuer: "OMail VPN",
    label,
    secret: new Secret({ buffer }),
    algorithm: "SHA1",
    digits: DIGITS,
    period: STEP_SECONDS,
  });
}
