/** SHA-256 fingerprints of certificates: as people compare them, as flags take them, as a token packs them. */

import { UsageError } from "./errors.ts";

/** Bytes of a fingerprint. */
export const FINGERPRINT_BYTES = 32;

/**
 * Reads a fingerprint in hexadecimal, with or without colons.
 *
 * @returns upper-case bytes with colons, as `X509Certificate.fingerprint256` writes them
 * @throws {UsageError} when it is none
 */
export function parseFingerprint(text: string): string {
  const hex = text.trim().replaceAll(":", "");
  if (/^[0-9a-fA-F]{64}$/.test(hex)) return formatFingerprint(Uint8Array.fromHex(hex));
  throw new UsageError(
    `Cannot use "${text}" as a fingerprint: expected SHA-256 in hexadecimal, ${2 * FINGERPRINT_BYTES} digits`,
  );
}

/** @param bytes 32 of them */
export function formatFingerprint(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(":");
}

/** The bytes of a fingerprint as {@link formatFingerprint} writes it. */
export function fingerprintBytes(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(text.replaceAll(":", ""));
}
