/** Base64 (RFC 4648, section 4, with padding) read strictly: one text for each byte string. */

/** @returns the bytes, or null when `base64` is not canonical */
export function decodeBase64(base64: string): Uint8Array<ArrayBuffer> | null {
  try {
    const decoded = Uint8Array.fromBase64(base64, { lastChunkHandling: "strict" });
    // fromBase64 skips white space, which would let two texts mean the same bytes
    return decoded.toBase64() === base64 ? decoded : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
