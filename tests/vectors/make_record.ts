/**
 * Makes `record.json`, the test vectors of the record layer: `bun tests/vectors/make_record.ts`.
 *
 * Written from docs/protocol.md with node:crypto and plain arrays; it shares no code with `lib/`, so that a mistake there
 * cannot repeat itself here.
 */

import { createCipheriv } from "node:crypto";
import { ACK, buildPacket, kernelVnet, type PacketParts, PSH, withVnet } from "../support/inner_packet.ts";

/** One record in every form that it takes between two ends. All byte strings are hexadecimal. */
export interface RecordVector {
  readonly name: string;
  readonly direction: "client-to-server" | "server-to-client";
  readonly type: number;
  readonly sessionId: number;
  readonly epoch: number;
  readonly sequence: number;
  readonly maxDatagramBytes: number;
  readonly pieces: number;
  readonly plaintext: string;
  /** Header of piece 0, which is the associated data. */
  readonly header: string;
  readonly nonce: string;
  /** Ciphertext and tag. */
  readonly sealed: string;
  readonly datagrams: readonly string[];
  /** Of a record of several pieces: the parities that may go ahead of its datagrams, for one group of pieces, for two and so on. */
  readonly parities: readonly (readonly string[])[];
}

/** The whole file. */
export interface RecordVectors {
  readonly about: string;
  readonly keys: Readonly<Record<RecordVector["direction"], { readonly key: string; readonly salt: string }>>;
  readonly records: readonly RecordVector[];
}

const KEYS: RecordVectors["keys"] = {
  "client-to-server": { key: count(0x00), salt: "a0a1a2a3" },
  "server-to-client": { key: count(0x80), salt: "b0b1b2b3" },
};

type Inputs = Pick<RecordVector, "name" | "direction" | "type" | "epoch" | "sequence" | "maxDatagramBytes">;

/** 32 bytes that count up. */
function count(first: number): string {
  return Buffer.from(Array.from({ length: 32 }, (_, i) => first + i)).toString("hex");
}

function hex(value: number, bytes: number): string {
  return value.toString(16).padStart(bytes * 2, "0");
}

function makeRecord(inputs: Inputs, plaintext: Uint8Array): RecordVector {
  const { type, direction, epoch, sequence, maxDatagramBytes } = inputs;
  const sessionId = 0x0badcafe;
  const length = plaintext.length + 16;
  const pieces = Math.ceil(length / (maxDatagramBytes - 16));
  const counter = hex(epoch, 2) + hex(pieces, 1) + hex(sequence, 5);
  const headerOf = (piece: number) =>
    hex(type, 1) + hex(piece, 1) + hex(length, 2) + hex(sessionId, 4) + counter;
  const header = headerOf(0);
  const { key, salt } = KEYS[direction];
  const nonce = salt + counter;
  const cipher = createCipheriv("aes-256-gcm", Buffer.from(key, "hex"), Buffer.from(nonce, "hex"));
  cipher.setAAD(Buffer.from(header, "hex"));
  const sealed =
    cipher.update(plaintext).toString("hex") + cipher.final("hex") + cipher.getAuthTag().toString("hex");
  const size = Math.ceil(length / pieces);
  const datagrams = Array.from(
    { length: pieces },
    (_, piece) => headerOf(piece) + sealed.slice(piece * size * 2, (piece + 1) * size * 2),
  );
  const payloads = datagrams.map((datagram) => [...Buffer.from(datagram.slice(32), "hex")]);
  const parities = Array.from({ length: pieces > 1 ? Math.min(8, pieces) : 0 }, (_, i) =>
    paritiesOf(payloads, i + 1).map(
      (bytes, group) => headerOf(128 + 8 * i + group) + Buffer.from(bytes).toString("hex"),
    ),
  );
  const text = Buffer.from(plaintext).toString("hex");
  return { ...inputs, sessionId, pieces, plaintext: text, header, nonce, sealed, datagrams, parities };
}

/** Byte by byte: the exclusive or of the pieces of each group, a short last piece filled up with zeros. */
function paritiesOf(payloads: readonly (readonly number[])[], groups: number): number[][] {
  return Array.from({ length: groups }, (_, group) =>
    payloads[0]!.map((_, at) =>
      payloads.reduce(
        (sum, payload, piece) => (piece % groups === group ? sum ^ (payload[at] ?? 0) : sum),
        0,
      ),
    ),
  );
}

function text(words: string): Uint8Array {
  return new TextEncoder().encode(words);
}

/** The contents of `record.json`. */
export function recordVectors(): RecordVectors {
  const small = buildPacket({ version: 4, protocol: "udp", payload: text("one packet") });
  const first: PacketParts = { version: 6, protocol: "udp", source: "fd00::1", destination: "fd00::2" };
  const second: PacketParts = { version: 4, protocol: "tcp", source: "10.8.0.1", destination: "10.8.0.2" };
  const two = Buffer.concat([
    buildPacket({ ...first, payload: text("the first of two") }),
    buildPacket({ ...second, payload: text("the second") }),
  ]);
  const keepalive = "00000003" + "00989680" + "004c4b40" + "000003e8" + hex(41, 8) + hex(42, 8) + hex(1, 8);
  const large: PacketParts = {
    version: 4,
    protocol: "tcp",
    flags: ACK | PSH,
    checksum: "pseudo",
    payload: Uint8Array.from({ length: 1150 }, (_, i) => i % 251),
  };
  const superPacket = withVnet(buildPacket(large), kernelVnet(large, 536));
  const up = "client-to-server";
  const down = "server-to-client";
  const max = 1452;
  return {
    about:
      "Records of OMail VPN as docs/protocol.md describes them; made by make_record.ts. Bytes are hexadecimal.",
    keys: KEYS,
    records: [
      makeRecord(
        { name: "one packet", direction: up, type: 1, epoch: 0, sequence: 0, maxDatagramBytes: max },
        small,
      ),
      makeRecord(
        { name: "two packets", direction: down, type: 1, epoch: 3, sequence: 77, maxDatagramBytes: max },
        two,
      ),
      makeRecord(
        { name: "keep-alive", direction: up, type: 2, epoch: 0, sequence: 1, maxDatagramBytes: max },
        Buffer.from(keepalive, "hex"),
      ),
      makeRecord(
        {
          name: "super-packet in three pieces",
          direction: up,
          type: 3,
          epoch: 65_535,
          sequence: 0xabcdef,
          maxDatagramBytes: 608,
        },
        superPacket,
      ),
    ],
  };
}

if (import.meta.main) {
  await Bun.write(`${import.meta.dir}/record.json`, `${JSON.stringify(recordVectors(), null, 2)}\n`);
}
