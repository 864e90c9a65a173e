/** The stages of a record: header, seal, open, cut, join, reassemble, replay window. */

import { createCipheriv, createDecipheriv } from "node:crypto";
import { openRecord, sealRecord } from "../../lib/crypto.ts";
import { joinPieces } from "../../lib/data_plane_inbound.ts";
import { HEADER_BYTES, KEY_BYTES, NONCE_BYTES, NONCE_SALT_BYTES, TAG_BYTES } from "../../lib/limits.ts";
import {
  datagramSize,
  piecesFor,
  pieceSize,
  RecordType,
  writeHeader,
  writePiece,
} from "../../lib/protocol.ts";
import { Reassembly } from "../../lib/reassembly.ts";
import { ReplayWindow } from "../../lib/replay_window.ts";
import type { Stage } from "./stopwatch.ts";
import { countText } from "./table.ts";

/** Plaintexts: an acknowledgement, a full packet, a few of them, a super-packet. */
const SIZES = [64, 1_400, 16_000, 62_000] as const;
const DATAGRAM_BYTES = 1_452;
/** Records under way at once, as under load. */
const IN_FLIGHT = 64;

export async function recordStages(): Promise<readonly Stage[]> {
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
  const seals = [0, 1, 2, 3].flatMap((kind) => perSize.map((stages) => stages[kind]!));
  return [
    header(),
    ...seals,
    ...[16_000, 62_000].flatMap((bytes) => [cut(bytes), join(bytes), reassemble(bytes)]),
    window(),
  ];
}

const sizeText = (bytes: number) => `${countText(bytes)} bytes`;
const SALT = new Uint8Array(NONCE_SALT_BYTES);

function headerOf(bytes: number, sequence: number): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(HEADER_BYTES);
  const length = bytes + TAG_BYTES;
  writeHeader(header, 0, RecordType.offload, length, 1, 0, piecesFor(length, DATAGRAM_BYTES), sequence);
  return header;
}

function header(): Stage {
  const bytes = new Uint8Array(HEADER_BYTES);
  return {
    name: "write and check a header",
    input: "one datagram",
    bytes: 0,
    batch: 10_000,
    run: (i) => {
      writeHeader(bytes, 0, RecordType.data, 1_436, 1, 0, 2, i);
      return datagramSize(bytes, 0, 2_000);
    },
  };
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

/** The datagrams of one record back to back, as they leave and arrive. */
function datagramsOf(bytes: number): Uint8Array<ArrayBuffer> {
  const header = headerOf(bytes, 0);
  const length = bytes + TAG_BYTES;
  const pieces = piecesFor(length, DATAGRAM_BYTES);
  const out = new Uint8Array(length + pieces * HEADER_BYTES);
  writePieces(header, Buffer.alloc(length), pieces, out);
  return out;
}

function writePieces(header: Uint8Array, record: Buffer, pieces: number, out: Uint8Array): number {
  const size = pieceSize(record.length, pieces);
  let at = 0;
  for (let i = 0; i < pieces; i++) {
    for (let j = 0; j < HEADER_BYTES; j++) out[at + j] = header[j]!;
    writePiece(out, at, i);
    at += HEADER_BYTES + record.copy(out, at + HEADER_BYTES, i * size, (i + 1) * size);
  }
  return at;
}

/** Stage 6 of the way out, before the send. */
function cut(bytes: number): Stage {
  const header = headerOf(bytes, 0);
  const record = Buffer.alloc(bytes + TAG_BYTES);
  const pieces = piecesFor(record.length, DATAGRAM_BYTES);
  const out = new Uint8Array(record.length + pieces * HEADER_BYTES);
  return {
    name: "cut a record into datagrams",
    input: sizeText(bytes),
    bytes,
    batch: 100,
    run: () => writePieces(header, record, pieces, out),
  };
}

/** Stage 3 of the way in when the kernel hands over the whole record at once. */
function join(bytes: number): Stage {
  const received = datagramsOf(bytes);
  const copies = Array.from({ length: 32 }, () => received.slice());
  const first = datagramSize(received, 0, received.length);
  return {
    name: "join a record in one buffer",
    input: sizeText(bytes),
    bytes,
    batch: copies.length,
    prepare: () => {
      for (const copy of copies) copy.set(received);
    },
    run: (i) => joinPieces(copies[i]!, 0, first),
  };
}

/** The same when its datagrams come one by one. */
function reassemble(bytes: number): Stage {
  const received = datagramsOf(bytes);
  const reassembly = new Reassembly();
  return {
    name: "reassemble a record from datagrams",
    input: sizeText(bytes),
    bytes,
    batch: 32,
    run: () => {
      for (let at = 0; at < received.length;) {
        const size = datagramSize(received, at, received.length);
        reassembly.add(received, at, size, 0);
        at += size;
      }
    },
  };
}

function window(): Stage {
  const replay = new ReplayWindow();
  let sequence = 0;
  return {
    name: "replay window, look and mark",
    input: "in order",
    bytes: 0,
    batch: 10_000,
    run: () => replay.accepts(sequence) && replay.mark(sequence++),
  };
}
