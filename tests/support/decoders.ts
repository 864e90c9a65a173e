/** Every decoder that reads what came from outside, in one form for hostile inputs: bytes in, its own refusal or nothing. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseHostPort, parsePrefix } from "../../lib/address.ts";
import { parseKickRequest, parseUnbanRequest } from "../../lib/admin_message.ts";
import { ChainChecker } from "../../lib/audit_chain.ts";
import { readRequest } from "../../lib/ca_issue.ts";
import { certificateFingerprint } from "../../lib/certificate.ts";
import { readClientSettings } from "../../lib/config_client.ts";
import { makeServerConfig, readServerSettings } from "../../lib/config_server.ts";
import { parseConfigText } from "../../lib/config.ts";
import { FrameDecoder } from "../../lib/control_frame.ts";
import { decodeClientMessage, decodeServerMessage, encodeMessage } from "../../lib/control_message.ts";
import { parseEnrolUri } from "../../lib/enrol_uri.ts";
import { ProtocolError, RefusedError, UsageError } from "../../lib/errors.ts";
import { HEADER_BYTES, REASSEMBLY_BYTES, REASSEMBLY_RECORDS, VNET_HEADER_BYTES } from "../../lib/limits.ts";
import {
  destinationOffset,
  ipHeaderBytes,
  ipProtocol,
  packetLength,
  sourceOffset,
} from "../../lib/packet.ts";
import { decodeProfile } from "../../lib/profile.ts";
import { datagramSize, isWholeRecord } from "../../lib/protocol.ts";
import { Reassembly } from "../../lib/reassembly.ts";
import { ScramClient, ScramServer, tlsExporterBinding } from "../../lib/scram.ts";
import { segmentedBytes, writeSegments } from "../../lib/segment.ts";
import { parseJournal } from "../../lib/undo_journal.ts";
import { admitOffload } from "../../lib/vnet_header.ts";

export interface Decoder {
  /** The folder of its inputs in `tests/corpus`. */
  readonly name: string;
  /**
   * Reads one input. Throws an {@link Error} of another class than `refusals` when something is wrong with the decoder.
   *
   * @returns whether the input was taken
   */
  readonly decode: (bytes: Uint8Array<ArrayBuffer>) => boolean | Promise<boolean>;
}

/** How a decoder says no. */
type Refusal = abstract new (...parts: never[]) => Error;

function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(`broken: ${what}`);
}

const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** Runs a decoder that refuses by throwing. */
function refusing(
  refusals: readonly Refusal[],
  read: (bytes: Uint8Array<ArrayBuffer>) => unknown,
): Decoder["decode"] {
  const refused = (error: unknown): boolean => {
    if (refusals.some((refusal) => error instanceof refusal)) return false;
    throw error;
  };
  return (bytes) => {
    try {
      const result = read(bytes);
      return result instanceof Promise ? result.then(() => true, refused) : true;
    } catch (error) {
      return refused(error);
    }
  };
}

const SOMEBODY = { host: "192.0.2.7", port: 4711 };

/** Walks a buffer of coalesced datagrams and puts their pieces together. */
function decodeDatagrams(bytes: Uint8Array<ArrayBuffer>): boolean {
  const reassembly = new Reassembly();
  let offset = 0;
  while (offset < bytes.length) {
    const size = datagramSize(bytes, offset, bytes.length);
    if (size === 0) return false;
    must(size > HEADER_BYTES && offset + size <= bytes.length, "a datagram past the end");
    const restored = reassembly.restore(bytes, offset);
    const whole = reassembly.add(bytes, offset, size, SOMEBODY, 0);
    for (const record of [restored, whole]) must(record === null || isWholeRecord(record.bytes), "no record");
    must(reassembly.bytes <= REASSEMBLY_BYTES && reassembly.records <= REASSEMBLY_RECORDS, "no bound");
    offset += size;
  }
  while (reassembly.isRestorable) must(reassembly.restore(null, 0) !== null, "promised a record");
  return bytes.length > 0;
}

/** Walks packets back to back, as an opened record of a hostile peer may hold them. */
function decodePackets(bytes: Uint8Array<ArrayBuffer>): boolean {
  let offset = 0;
  while (offset < bytes.length) {
    const length = packetLength(bytes, offset, bytes.length);
    if (length === 0) return false;
    must(length >= 20 && offset + length <= bytes.length, "a packet past the end");
    must(sourceOffset(bytes, offset) + 4 <= offset + length, "an address past the end");
    must(destinationOffset(bytes, offset) + 4 <= offset + length, "an address past the end");
    must(ipHeaderBytes(bytes, offset) <= length && ipProtocol(bytes, offset) <= 255, "a header past the end");
    offset += length;
  }
  return bytes.length > 0;
}

/** A packet behind a virtio-net header: what is admitted must be cut into whole packets within its bounds. */
function decodeVirtio(bytes: Uint8Array<ArrayBuffer>): boolean {
  const length = packetLength(bytes, VNET_HEADER_BYTES, bytes.length);
  if (length === 0 || !admitOffload(bytes, 0, length)) return false;
  const size = segmentedBytes(bytes, 0, length);
  must(size >= length && size < 64 * 1024 * 1024, "impossible size of the segments");
  const out = new Uint8Array(size);
  must(writeSegments(bytes, 0, length, out, 0) === size, "segments of another size than announced");
  must(decodePackets(out), "segments that are no packets");
  return true;
}

function decodeFrames(bytes: Uint8Array<ArrayBuffer>): boolean {
  const whole = new FrameDecoder();
  const bodies = whole.push(bytes);
  const dripped = new FrameDecoder();
  const pieces = Array.from({ length: Math.ceil(bytes.length / 7) }, (_, i) =>
    bytes.subarray(i * 7, i * 7 + 7),
  );
  const again = pieces.flatMap((piece) => dripped.push(piece));
  must(Bun.deepEquals(bodies, again), "the same stream in other pieces means something else");
  return whole.isAtBoundary;
}

const BINDING = tlsExporterBinding(new Uint8Array(32));
const keys = { clientKey: new Uint8Array(32), serverKey: new Uint8Array(32) };
const verifier = {
  salt: new Uint8Array(16),
  iterations: 4_096,
  storedKey: new Uint8Array(32),
  serverKey: new Uint8Array(32),
};

/** Each SCRAM text to each step that reads one; it is taken when one of them takes it. */
async function decodeScram(bytes: Uint8Array<ArrayBuffer>): Promise<boolean> {
  const text = textOf(bytes);
  const server = new ScramServer("p=tls-exporter,,n=user,r=abc", "def", BINDING);
  const client = (): ScramClient => new ScramClient("user", "rOprNGfwEbeRWgbNEkqO", BINDING);
  const steps: readonly Decoder["decode"][] = [
    refusing([ProtocolError], () => new ScramServer(text, "nonce", BINDING).challenge(verifier)),
    refusing([ProtocolError], () => server.finish(text, verifier)),
    refusing([ProtocolError], () => client().final(text, () => Promise.resolve(keys))),
    refusing([RefusedError], () => client().verify(text)),
  ];
  const taken = await Promise.all(steps.map((step) => step(bytes)));
  // nobody can sign what a fresh client has not asked for
  must(taken[3] === false, "a server's signature out of nothing");
  return taken.some(Boolean) || /^v=[A-Za-z0-9+/]{43}=$/.test(text);
}

function decodeAudit(bytes: Uint8Array<ArrayBuffer>): boolean {
  const checker = new ChainChecker();
  for (const line of textOf(bytes)
    .split("\n")
    .filter((text) => text !== ""))
    checker.next(line);
  checker.finish(null);
  return checker.problems.length === 0;
}

/** A message that was taken must be written and read again as the same. */
function roundTrip<Message extends Parameters<typeof encodeMessage>[0]>(
  decode: (body: Uint8Array) => Message,
): Decoder["decode"] {
  return refusing([ProtocolError], (bytes) => {
    const message = decode(bytes);
    must(Bun.deepEquals(decode(encodeMessage(message)), message), "another message after encoding it again");
  });
}

/** All of them. */
export const DECODERS: readonly Decoder[] = [
  { name: "datagram", decode: decodeDatagrams },
  { name: "record", decode: decodePackets },
  { name: "packet", decode: decodePackets },
  { name: "virtio_header", decode: decodeVirtio },
  { name: "control_frame", decode: refusing([ProtocolError], decodeFrames) },
  { name: "control_message_client", decode: roundTrip(decodeClientMessage) },
  { name: "control_message_server", decode: roundTrip(decodeServerMessage) },
  { name: "scram", decode: decodeScram },
  {
    name: "server_configuration",
    decode: refusing([UsageError], async (bytes) => {
      const layer = await parseConfigText(textOf(bytes), "file");
      return makeServerConfig(readServerSettings([layer]).values, null);
    }),
  },
  {
    name: "client_configuration",
    decode: refusing([UsageError], async (bytes) =>
      readClientSettings([await parseConfigText(textOf(bytes), "file")]),
    ),
  },
  { name: "profile", decode: refusing([UsageError], (bytes) => decodeProfile(textOf(bytes), "profile")) },
  { name: "enrol_uri", decode: refusing([UsageError], (bytes) => parseEnrolUri(textOf(bytes))) },
  { name: "journal", decode: (bytes) => !parseJournal(textOf(bytes)).damaged },
  { name: "audit_log", decode: decodeAudit },
  {
    name: "admin_request",
    decode: refusing([UsageError, SyntaxError], (bytes) => {
      const body: unknown = JSON.parse(textOf(bytes));
      return textOf(bytes).includes("value") ? parseUnbanRequest(body) : parseKickRequest(body);
    }),
  },
  { name: "signing_request", decode: refusing([UsageError], readRequest) },
  { name: "certificate", decode: refusing([UsageError], (bytes) => certificateFingerprint(textOf(bytes))) },
  {
    name: "address",
    decode: refusing([UsageError], (bytes) =>
      textOf(bytes).includes("/") ? parsePrefix(textOf(bytes)) : parseHostPort(textOf(bytes), 1),
    ),
  },
];

/** One input from `tests/corpus`. */
export interface CorpusFile {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export function corpusOf(decoder: string): readonly CorpusFile[] {
  const folder = join(import.meta.dir, "../corpus", decoder);
  return readdirSync(folder)
    .toSorted()
    .map((name) => ({ name, bytes: Uint8Array.from(readFileSync(join(folder, name))) }));
}
