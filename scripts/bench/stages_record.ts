/** The stages of a record but its cipher: header, cut, join, reassemble, replay window. */

import { joinPieces } from "../../lib/data_plane_inbound.ts";
import { HEADER_BYTES, TAG_BYTES } from "../../lib/limits.ts";
import { restorePiece, writeParity } from "../../lib/parity.ts";
import {
  datagramSize,
  pieceSize,
  piecesFor,
  RecordType,
  writeDatagrams,
  writeHeader,
} from "../../lib/protocol.ts";
import { Reassembly } from "../../lib/reassembly.ts";
import { ReplayWindow } from "../../lib/replay_window.ts";
import { DATAGRAM_BYTES, headerOf, sizeText } from "./stage_packets.ts";
import type { Stage } from "./stopwatch.ts";

const SOMEBODY = { host: "192.0.2.7", port: 4711 };

export function recordStages(): readonly Stage[] {
  const cuts = [16_000, 62_000].flatMap((bytes) => [
    cut(bytes),
    parity(bytes),
    join(bytes),
    reassemble(bytes),
    restore(bytes),
  ]);
  return [header(), ...cuts, window()];
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

/** The datagrams of one record back to back, as they leave and arrive. */
function datagramsOf(bytes: number): Uint8Array<ArrayBuffer> {
  const header = headerOf(bytes, 0);
  const length = bytes + TAG_BYTES;
  const pieces = piecesFor(length, DATAGRAM_BYTES);
  const out = new Uint8Array(length + pieces * HEADER_BYTES);
  writeDatagrams(out, header, new Uint8Array(length), null, null, pieces);
  return out;
}

/** Stage 6 of the way out, before the send. */
function cut(bytes: number): Stage {
  const header = headerOf(bytes, 0);
  const record = new Uint8Array(bytes + TAG_BYTES);
  const pieces = piecesFor(record.length, DATAGRAM_BYTES);
  const out = new Uint8Array(record.length + pieces * HEADER_BYTES);
  return {
    name: "cut a record into datagrams",
    input: sizeText(bytes),
    bytes,
    batch: 100,
    run: () => writeDatagrams(out, header, record, null, null, pieces),
  };
}

/** What parity adds to it on a path that loses datagrams. */
function parity(bytes: number): Stage {
  const record = new Uint8Array(bytes + TAG_BYTES);
  const pieces = piecesFor(record.length, DATAGRAM_BYTES);
  const out = new Uint8Array(pieceSize(record.length, pieces));
  return {
    name: "parity of a record",
    input: sizeText(bytes),
    bytes,
    batch: 100,
    run: () => writeParity(out, record, null, pieces, 1),
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
    run: (i) => joinPieces(copies[i]!, 0, first, received.length),
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
        reassembly.add(received, at, size, SOMEBODY, 0);
        at += size;
      }
    },
  };
}

/** What a lost datagram adds to it. */
function restore(bytes: number): Stage {
  const record = new Uint8Array(bytes + TAG_BYTES);
  const pieces = piecesFor(record.length, DATAGRAM_BYTES);
  const parity = new Uint8Array(pieceSize(record.length, pieces));
  return {
    name: "restore a lost piece",
    input: sizeText(bytes),
    bytes,
    batch: 100,
    run: () => restorePiece(record, 0, record.length, pieces, 1, pieces >> 1, parity),
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
