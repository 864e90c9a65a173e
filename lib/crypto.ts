/**
 * Seals and opens one record: AES-256-GCM by Web Crypto (NIST SP 800-38D, RFC 5116).
 *
 * Nonce = 4-byte salt | 8-byte record counter (the construction of RFC 5288); associated data = the 16-byte header of
 * piece 0; output = ciphertext | 16-byte tag. The price of a Web Crypto call is the call, not its bytes: so what is
 * sealed is a record of many packets, not a packet.
 *
 * Web Crypto copies its input before the call returns, so the caller may reuse `header` and `plaintext` at once.
 */

import { HEADER_BYTES, NONCE_BYTES, NONCE_SALT_BYTES, TAG_BYTES } from "./limits.ts";

/** Offset of the record counter in the header. */
const COUNTER_OFFSET = 8;

type AesGcmParameters = Extract<Parameters<typeof crypto.subtle.encrypt>[0], { iv: unknown }>;

function parameters(salt: Uint8Array, bytes: Uint8Array, offset: number): AesGcmParameters {
  const iv = new Uint8Array(NONCE_BYTES);
  iv.set(salt);
  iv.set(bytes.subarray(offset + COUNTER_OFFSET, offset + HEADER_BYTES), NONCE_SALT_BYTES);
  const additionalData = bytes.slice(offset, offset + HEADER_BYTES);
  return { name: "AES-GCM", iv, additionalData, tagLength: TAG_BYTES * 8 };
}

/**
 * Seals `plaintext` under the header at `header[offset..offset+16)`.
 *
 * @returns ciphertext and tag, `plaintext.length + 16` bytes
 */
export function sealRecord(
  key: CryptoKey,
  salt: Uint8Array,
  header: Uint8Array,
  offset: number,
  plaintext: Uint8Array<ArrayBuffer>,
): Promise<ArrayBuffer> {
  return crypto.subtle.encrypt(parameters(salt, header, offset), key, plaintext);
}

/**
 * Opens a sealed record that follows its header at `offset`.
 *
 * @returns the plaintext; rejects with `OperationError` when the tag is wrong
 */
export function openRecord(
  key: CryptoKey,
  salt: Uint8Array,
  bytes: Uint8Array,
  offset: number,
  sealed: Uint8Array<ArrayBuffer>,
): Promise<ArrayBuffer> {
  return crypto.subtle.decrypt(parameters(salt, bytes, offset), key, sealed);
}
