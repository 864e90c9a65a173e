/** PEM text (RFC 7468): labelled blocks of DER bytes, read and written. */

import { UsageError } from "./errors.ts";

/** One block of a PEM text. */
export interface PemBlock {
  /** What stands behind BEGIN, for example `CERTIFICATE`. */
  readonly label: string;
  readonly der: Uint8Array<ArrayBuffer>;
}

const BLOCK = /-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*)-----END \1-----/g;
const BEGIN = /-----BEGIN /g;
const LINE_CHARACTERS = 64;

/** Whether a text holds PEM itself, and is not the name of a file with it. */
export function isPem(text: string): boolean {
  return text.includes("-----BEGIN ");
}

/**
 * Reads all blocks; text between them is ignored, as RFC 7468 wants it.
 *
 * @param what names the text in the error message; nothing of the text is repeated, it may be a key
 * @throws {UsageError} when there is no block, or one is cut off, encrypted or no base64
 */
export function readPem(text: string, what: string): readonly PemBlock[] {
  const begun = [...text.matchAll(BEGIN)].length;
  const found = [...text.matchAll(BLOCK)].map(([, label = "", body = ""]) => ({ label, der: decode(body) }));
  const blocks = found.filter((block): block is PemBlock => block.der !== null && block.der.length > 0);
  if (begun === 0)
    throw new UsageError(`Cannot read ${what}: expected PEM text, which has BEGIN and END lines`);
  if (blocks.length < begun) {
    throw new UsageError(
      `Cannot read ${what}: block ${blocks.length + 1} of ${begun} is cut off, encrypted or damaged, expected whole PEM blocks`,
    );
  }
  return blocks;
}

/** Writes one block with its line end. */
export function writePem({ label, der }: PemBlock): string {
  const lines = der.toBase64().match(new RegExp(`.{1,${LINE_CHARACTERS}}`, "g")) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

function decode(body: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.fromBase64(body.replaceAll(/\s/g, ""), { lastChunkHandling: "strict" });
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
