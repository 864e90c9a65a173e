/** The stages that seal and open a record, by each engine. */

import { createCipheriv, createDecipheriv } from "node:crypto";
import { openRecord, sealRecord } from "../../lib/crypto.ts";
import { HEADER_BYTES, KEY_BYTES, NONCE_BYTES, NONCE_SALT_BYTES } from "../../lib/limits.ts";
import { headerOf, sizeText } from "./stage_packets.ts";
import type { Stage } from "./stopwatch.ts";

/** Plaintexts: an acknowledgement, a full packet, a few of them, a super-packet. */
const SIZES = [64, 1_400, 16_000, 62_000] as const;
/** Records under way at once, as under load. */
const IN_FLIGHT = 64;
const SALT = new Uint8Array(NONCE_SALT_BYTES);

export async function cipherStages(): Promise<readonly Stage[]> {
  const key = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
  const webKey = await crypto.subtle.importKey("raw", key, "AES-GCM", false, ["encrypt", "decrypt"]);
  const perSize = await Promise.all(
    SIZES.map(async (bytes) => [
      sealWeb(webKey, bytes),
      sealNode(key, bytes),
      openWeb(webKey, bytes, new Uint8Array(await sealed(webKey, bytes))),
      openNode(key, bytes, new Uint8Array(await sealed(webKey, bytes))),
    ]),
  );
  return [0, 1, 2, 3].flatMap((kind) => perSize.map((stages) => stages[kind]!));
}

function sealWeb(key: CryptoKey, bytes: number): Stage {
  const plaintext = new Uint8Array(bytes);
  let sequence = 0;
  return {
    name: "seal, Web Crypto",
    input: sizeText(bytes),
    bytes,
    batch: IN_FLIGHT,
    run: () => sealRecord(key, SALT, headerOf(bytes, sequence++), 0, plaintext),
  };
}

function openWeb(key: CryptoKey, bytes: number, record: Uint8Array<ArrayBuffer>): Stage {
  const header = headerOf(bytes, 0);
  return {
    name: "open, Web Crypto",
    input: sizeText(bytes),
    bytes,
    batch: IN_FLIGHT,
    run: () => openRecord(key, SALT, header, 0, record),
  };
}

function sealed(key: CryptoKey, bytes: number): Promise<ArrayBuffer> {
  return sealRecord(key, SALT, headerOf(bytes, 0), 0, new Uint8Array(bytes));
}

const CIPHER = "aes-256-gcm";

function nonceOf(header: Uint8Array): Uint8Array {
  const nonce = new Uint8Array(NONCE_BYTES);
  nonce.set(header.subarray(HEADER_BYTES - 8), NONCE_SALT_BYTES);
  return nonce;
}

/** The same by node:crypto, on this thread. */
function sealNode(key: Uint8Array, bytes: number): Stage {
  const plaintext = new Uint8Array(bytes);
  let sequence = 0;
  return {
    name: "seal, node:crypto",
    input: sizeText(bytes),
    bytes,
    batch: IN_FLIGHT,
    run: () => {
      const header = headerOf(bytes, sequence++);
      const cipher = createCipheriv(CIPHER, key, nonceOf(header)).setAAD(header);
      return [cipher.update(plaintext), cipher.final(), cipher.getAuthTag()];
    },
  };
}

function openNode(key: Uint8Array, bytes: number, record: Uint8Array): Stage {
  const header = headerOf(bytes, 0);
  return {
    name: "open, node:crypto",
    input: sizeText(bytes),
    bytes,
    batch: IN_FLIGHT,
    run: () => {
      const decipher = createDecipheriv(CIPHER, key, nonceOf(header)).setAAD(header);
      decipher.setAuthTag(record.subarray(bytes));
      return [decipher.update(record.subarray(0, bytes)), decipher.final()];
    },
  };
}
