/** Records as a client with good keys would send them: sealed with its key of epoch 0, cut into datagrams. */

import { HEADER_BYTES, TAG_BYTES } from "../../lib/limits.ts";
import { pieceSize, type RecordType, writeDatagrams, writeHeader } from "../../lib/protocol.ts";
import { SESSION_ID } from "./data_plane_pair.ts";
import { epochKeys } from "./epoch_keys.ts";
import { sealRecord } from "./seal.ts";

/** @returns the datagrams in the order of their pieces */
export async function genuineRecord(
  type: RecordType,
  plaintext: Uint8Array<ArrayBuffer>,
  sequence: number,
  pieces = 1,
): Promise<Uint8Array<ArrayBuffer>[]> {
  const { client } = await epochKeys(0);
  const length = plaintext.length + TAG_BYTES;
  const header = new Uint8Array(HEADER_BYTES);
  writeHeader(header, 0, type, length, SESSION_ID, 0, pieces, sequence);
  const sealed = new Uint8Array(await sealRecord(client.sendKey, client.sendSalt, header, 0, plaintext));
  const out = new Uint8Array(length + pieces * HEADER_BYTES);
  const end = writeDatagrams(out, header, sealed, null, null, pieces);
  const size = HEADER_BYTES + pieceSize(length, pieces);
  return Array.from({ length: pieces }, (_, i) => out.slice(i * size, Math.min(end, (i + 1) * size)));
}
