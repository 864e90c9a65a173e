/**
 * Talks to a real server as a broken or hostile client would: mutated messages before, during and after the log-in, and
 * mutated packets in genuine records.
 *
 * Use: protocol_fuzzer.ts HOST PORT SECONDS SEED PASSWORD HOME ADDRESS[,ADDRESS…]. Real log-ins come from HOME, all else
 * from the other addresses in turn. Prints {@link FuzzTally} as JSON.
 */

import tls from "node:tls";
import { logIn } from "../../../lib/client_login.ts";
import { encodeFrame, FrameDecoder } from "../../../lib/control_frame.ts";
import { type ClientMessage, decodeServerMessage, encodeMessage } from "../../../lib/control_message.ts";
import type { EpochKeys } from "../../../lib/data_plane_message.ts";
import type { ClientGrant } from "../../../lib/handshake.ts";
import { startExchange } from "../../../lib/key_schedule.ts";
import { HEADER_BYTES, TAG_BYTES } from "../../../lib/limits.ts";
import { PasswordKeys } from "../../../lib/password.ts";
import { RecordType, writeHeader } from "../../../lib/protocol.ts";
import { TlsConnection } from "../../../lib/tls_connection.ts";
import { corpusOf } from "../../support/decoders.ts";
import { mutated } from "../../support/mutate.ts";
import { randomSource } from "../../support/property.ts";

/** What was done, and how the server ended connections. */
export interface FuzzTally {
  readonly connections: number;
  readonly messages: number;
  readonly datagrams: number;
  readonly logins: number;
  /** Goodbye codes and how often they came; `silent` for an end without one. */
  readonly endings: Readonly<Record<string, number>>;
  /** What the fuzzer itself could not do. */
  readonly failures: readonly string[];
}

const [host = "", portText = "", secondsText = "", seedText = "", password = "", home = "", othersText = ""] =
  process.argv.slice(2);
const port = Number(portText);
const endMs = performance.now() + Number(secondsText) * 1000;
const random = randomSource(Number(seedText));
const others = othersText.split(",");
const keys = new PasswordKeys(password);
/** Connections at once. */
const LANES = 4;
/** A server that says nothing for this long is taken to be waiting; the next connection comes. */
const PATIENCE_MS = 300;

const tally = { connections: 0, messages: 0, datagrams: 0, logins: 0 };
const endings: Record<string, number> = {};
const failures: string[] = [];

const corpus = (decoder: string) => corpusOf(decoder).map(({ bytes }) => bytes);
const MESSAGES = corpus("control_message_client");
const FRAMES = corpus("control_frame");
const PACKETS = corpus("packet");
const SUPER_PACKETS = corpus("virtio_header");

function dial(localAddress: string): Promise<tls.TLSSocket> {
  tally.connections++;
  const options = { host, port, localAddress, rejectUnauthorized: false, ALPNProtocols: ["omail/1"] };
  return new Promise((resolve, reject) => {
    const socket = tls.connect(options);
    socket.on("error", reject);
    socket.once("close", () => reject(new Error("closed")));
    socket.once("secureConnect", () => resolve(socket));
  });
}

function count(ending: string): void {
  endings[ending] = (endings[ending] ?? 0) + 1;
}

/** Resolves when the server closed, or said nothing for a while. */
async function watchEnd(socket: tls.TLSSocket): Promise<void> {
  const decoder = new FrameDecoder();
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  let ending = "silent";
  socket.on("data", (chunk: Buffer) => {
    for (const { body } of decoder.push(Uint8Array.from(chunk))) {
      const message = decodeServerMessage(body);
      if (message.type === "goodbye") ending = message.code;
    }
  });
  await Promise.race([closed, Bun.sleep(PATIENCE_MS)]);
  socket.destroy();
  count(ending);
}

/** Mutated messages in whole frames, or mutated frames, on a connection that has not logged in. */
async function stranger(): Promise<void> {
  const socket = await dial(others[random(others.length)]!);
  const end = watchEnd(socket);
  for (let i = 1 + random(4); i > 0 && !socket.destroyed; i--) {
    tally.messages++;
    socket.write(random(2) === 0 ? mutated(FRAMES, random) : framed(mutated(MESSAGES, random)));
  }
  await end;
}

/** A genuine hello, then a mutated rest of the log-in. */
async function halfLogin(): Promise<void> {
  const socket = await dial(others[random(others.length)]!);
  const end = watchEnd(socket);
  const { share } = await startExchange(0);
  const auth = { scram: `p=tls-exporter,,n=default,r=${crypto.randomUUID()}` };
  const hello: ClientMessage = {
    type: "hello",
    version: 1,
    client: "fuzzer",
    features: { offload: true },
    addresses: [],
    auth,
    keyShare: share,
  };
  socket.write(encodeFrame(encodeMessage(hello)));
  await Bun.sleep(5);
  tally.messages += 2;
  if (!socket.destroyed) socket.write(framed(mutated(MESSAGES, random)));
  await end;
}

/** A genuine log-in, then mutated messages on it and mutated packets in genuine records. */
async function member(): Promise<void> {
  const socket = await dial(home);
  const connection = new TlsConnection(socket);
  const login = {
    user: "default",
    password: () => Promise.resolve(keys),
    client: "fuzzer",
    offload: true,
    wantedAddresses: [],
    resume: null,
    random: (length: number) => crypto.getRandomValues(new Uint8Array(length)),
  };
  const grant = await logIn(connection, login, 5_000, new AbortController().signal);
  tally.logins++;
  await sendRecords(grant);
  for (let i = 1 + random(6); i > 0 && !connection.isClosed; i--) {
    tally.messages++;
    connection.send(mutated(MESSAGES, random).slice(0, 60_000));
    await Bun.sleep(2);
  }
  await Bun.sleep(20);
  // what it said last, if it ended the connection
  for (let body = await next(connection); body !== null; body = await next(connection)) {
    const message = decodeServerMessage(body);
    if (message.type === "goodbye") count(message.code);
  }
  connection.destroy();
}

async function next(connection: TlsConnection): Promise<Uint8Array | null> {
  return await Promise.race([connection.receive().catch(() => null), Bun.sleep(50).then(() => null)]);
}

const RECORDS = 200;

async function sendRecords({ config, keys: epochKeys }: ClientGrant): Promise<void> {
  const own = config.addresses.find((text) => !text.includes(":"))!.split("/")[0]!;
  const socket = await Bun.udpSocket({ hostname: home, connect: { hostname: host, port } });
  for (let sequence = 0; sequence < RECORDS; sequence++) {
    const offload = random(2) === 0;
    const packets = (offload ? SUPER_PACKETS : PACKETS).map((packet) =>
      fromAddress(packet, offload ? 10 : 0, own),
    );
    const plaintext = random(8) === 0 ? packets[random(packets.length)]! : mutated(packets, random);
    if (plaintext.length === 0 || plaintext.length > 1_400) continue;
    const type = offload ? RecordType.offload : random(10) === 0 ? RecordType.keepalive : RecordType.data;
    const record = await seal(epochKeys, config.sessionId, type, sequence, plaintext);
    // now and then the record itself is damaged, or comes twice
    const sent = random(10) === 0 ? mutated([record], random) : record;
    for (let copies = 1 + (random(10) === 0 ? 1 : 0); copies > 0; copies--) {
      if (sent.length > 0) socket.send(sent);
      tally.datagrams++;
    }
  }
  socket.close();
}

/** Gives an IPv4 packet the inner address that the session owns, so that it gets past the check of sources. */
function fromAddress(
  packet: Uint8Array<ArrayBuffer>,
  offset: number,
  address: string,
): Uint8Array<ArrayBuffer> {
  if (packet[offset]! >> 4 !== 4) return packet;
  const copy = Uint8Array.from(packet);
  copy.set(address.split(".").map(Number), offset + 12);
  return copy;
}

async function seal(
  { epoch, sendKey, sendSalt }: EpochKeys,
  sessionId: number,
  type: RecordType,
  sequence: number,
  plaintext: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const length = plaintext.length + TAG_BYTES;
  const header = new Uint8Array(HEADER_BYTES);
  writeHeader(header, 0, type, length, sessionId, epoch, 1, sequence);
  const iv = Uint8Array.from([...sendSalt, ...header.subarray(8)]);
  const sealed = await crypto.subtle.encrypt(
    { name: "AES-GCM", iv, additionalData: header },
    sendKey,
    plaintext,
  );
  return Uint8Array.from([...header, ...new Uint8Array(sealed)]);
}

function framed(body: Uint8Array): Uint8Array {
  return body.length === 0 ? new Uint8Array(4) : encodeFrame(body.slice(0, 65_536));
}

const ATTACKS = [stranger, stranger, halfLogin, member];

async function lane(): Promise<void> {
  while (performance.now() < endMs) {
    try {
      await ATTACKS[random(ATTACKS.length)]!();
    } catch (error) {
      if (failures.length < 20) failures.push(String(error));
    }
  }
}

await Promise.all(Array.from({ length: LANES }, lane));
console.log(JSON.stringify({ ...tally, endings, failures } satisfies FuzzTally));
process.exit(0);
