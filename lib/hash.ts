/** SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104) over byte strings, by Web Crypto. */

/** Bytes of a SHA-256 digest and of an HMAC-SHA-256. */
export const HASH_BYTES = 32;

/** @returns the 32-byte digest of `data` */
export async function sha256(data: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data));
}

/**
 * @param key at least one byte
 * @returns the 32-byte code of `data`; a text is taken as UTF-8
 */
export async function hmacSha256(
  key: Uint8Array<ArrayBuffer>,
  data: Uint8Array<ArrayBuffer> | string,
): Promise<Uint8Array<ArrayBuffer>> {
  const imported = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, [
    "sign",
  ]);
  const message = typeof data === "string" ? new TextEncoder().encode(data) : data;
  return new Uint8Array(await crypto.subtle.sign("HMAC", imported, message));
}
