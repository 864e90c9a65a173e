/**
 * The way in: from the UDP socket to the TUN device.
 *
 * Stages of a datagram, checks in the order of their price (one thread; only opening leaves it):
 *  1. header     - form and length; a buffer may hold many datagrams (UDP_GRO)           sequential
 *  2. session    - by ID; its epoch; the replay window looks                             sequential
 *  3. reassemble - pieces of one record; mostly all in one buffer, joined in place       sequential
 *  4. open       - one Web Crypto call a record                                          parallel
 *  5. authentic  - in order of arrival again: the replay window marks, the endpoint and the timers move
 *  6. packet     - length, virtio header, source address must be the session's           sequential
 *  7. write      - to the TUN; a rate-limited session's packets when it is their time    sequential
 *
 * Nothing is ever answered to an unauthenticated datagram, and it changes nothing but a counter.
 */

import type { HostPort } from "./address.ts";
import { freeBytes } from "./bytes.ts";
import type { Clock } from "./clock.ts";
import type { TransportName } from "./data_plane_message.ts";
import type { DropCounter } from "./drop_counter.ts";
import type { Engine, RecordJob, RecordKey } from "./engine.ts";
import { decodeKeepalive } from "./keepalive.ts";
import { HEADER_BYTES, OPEN_IN_FLIGHT_BYTES, VNET_HEADER_BYTES } from "./limits.ts";
import { packetLength } from "./packet.ts";
import { clampMss } from "./packet_mss.ts";
import { decodeProbe, type ProbeMessage } from "./probe_message.ts";
import {
  datagramSize,
  isHeader,
  isWholeRecord,
  parityPiece,
  readEpoch,
  readLength,
  readParityGroups,
  readPiece,
  readPieces,
  readSequence,
  readSessionId,
  readType,
  RecordType,
} from "./protocol.ts";
import { RateGate } from "./rate_gate.ts";
import type { WholeRecord } from "./reassembly.ts";
import { segmentCount, segmentedBytes, writeSegments } from "./segment.ts";
import type { ReceivingEpoch, Session } from "./session.ts";
import type { SessionTable } from "./session_table.ts";
import type { PacketDevice } from "./tun.ts";
import { UdpRun } from "./udp_run.ts";
import { admitOffload, GSO_UDP_L4, VNET_NEEDS_CSUM, vnetFlags, vnetGsoType } from "./vnet_header.ts";

/** One record on its way from the socket to the TUN. */
class OpenJob implements RecordJob {
  readonly key: RecordKey;
  readonly salt: Uint8Array;
  readonly session: Session;
  readonly epoch: ReceivingEpoch;
  readonly sequence: number;
  readonly type: number;
  readonly sealedBytes: number;
  /** Sender of the datagrams; null for a record of the TLS stream. */
  readonly from: HostPort | null;
  /** A lost piece of it was restored from its parity. */
  readonly restored: boolean;
  body: Uint8Array<ArrayBuffer> | null = null;
  readonly tag = null;
  failed = false;
  readonly #owner: Inbound;

  constructor(
    owner: Inbound,
    session: Session,
    epoch: ReceivingEpoch,
    sequence: number,
    type: number,
    sealedBytes: number,
    from: HostPort | null,
    restored: boolean,
  ) {
    this.#owner = owner;
    this.session = session;
    this.epoch = epoch;
    this.key = epoch.key;
    this.salt = epoch.salt;
    this.sequence = sequence;
    this.type = type;
    this.sealedBytes = sealedBytes;
    this.from = from;
    this.restored = restored;
  }

  settled(): void {
    this.#owner.opened(this);
  }
}

/** What the way in tells its owner. */
export interface InboundEvents {
  /** The first record of an epoch was opened. */
  epochConfirmed(session: Session, epoch: number): void;
  endpointMoved(session: Session): void;
  /** The peer asked for a keep-alive at once, by the path of its own: from this address, or by the stream. */
  replyWanted(session: Session, probe: boolean, from: HostPort | null): void;
  /** A keep-alive came; `echoUs` is the `sent at` that it echoes. */
  keepalive(session: Session, path: TransportName, echoUs: number | null): void;
  /** The peer's network has changed. */
  newPath(session: Session): void;
  /** A probe of the peer arrived, or its acknowledgement of one of ours. */
  probeReceived(session: Session, message: ProbeMessage): void;
}

/** Drives the way in; see the top of the file. */
export class Inbound {
  /** What holds rate-limited sessions back. */
  readonly gate: RateGate<Session>;
  readonly #tun: PacketDevice;
  readonly #sessions: SessionTable;
  readonly #drops: DropCounter;
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #mtuBytes: number;
  readonly #events: InboundEvents;
  readonly #jobs: OpenJob[] = [];
  #inFlightBytes = 0;
  /** Sessions of which a record could be restored. */
  readonly #restorable = new Set<Session>();
  readonly #run = new UdpRun();
  /** A packet without virtio header is copied behind an empty one for a TUN that wants it. */
  readonly #packetBuffer = new Uint8Array(VNET_HEADER_BYTES + 65_536);

  constructor(
    tun: PacketDevice,
    sessions: SessionTable,
    drops: DropCounter,
    engine: Engine,
    clock: Clock,
    mtuBytes: number,
    events: InboundEvents,
  ) {
    this.#tun = tun;
    this.#sessions = sessions;
    this.#drops = drops;
    this.#engine = engine;
    this.#clock = clock;
    this.#mtuBytes = mtuBytes;
    this.#events = events;
    this.gate = new RateGate({
      offload: tun.offload,
      clock,
      release: (session, packets) => {
        for (const { bytes, innerBytes, packets: count } of packets)
          this.#writeNow(session, bytes, 0, bytes.length, innerBytes, count);
      },
      dropped: (packets) => drops.add("rate-limited-up", packets),
    });
  }

  /** Takes one received buffer of `end` bytes, which may hold many datagrams of one sender. The buffer is overwritten. */
  receive(bytes: Uint8Array<ArrayBuffer>, end: number, from: HostPort): void {
    let offset = 0;
    while (offset < end) {
      const size = datagramSize(bytes, offset, end);
      if (size === 0) return this.#drops.add("datagram-malformed");
      offset += this.#datagram(bytes, offset, size, end, from);
    }
  }

  /** Takes one whole record: its header is at `header[offset]`, its sealed bytes begin at `sealed[start]`. */
  receiveRecord(
    header: Uint8Array<ArrayBuffer>,
    offset: number,
    sealed: Uint8Array<ArrayBuffer>,
    start: number,
    from: HostPort,
  ): void {
    if (!isHeader(header, offset)) return this.#drops.add("datagram-malformed");
    const session = this.#sessions.get(readSessionId(header, offset));
    if (session === undefined) return this.#drops.add("session-unknown");
    const epoch = session.findEpoch(readEpoch(header, offset));
    if (epoch === undefined) return this.#drops.add("epoch-unknown");
    const sequence = readSequence(header, offset);
    if (!epoch.window.accepts(sequence)) return this.#drops.add("record-replayed");
    if (session.reassembly.isRestorable) this.#restore(session, header, offset);
    this.#open(session, epoch, sequence, header, offset, sealed, start, from, false);
  }

  /** Nothing more waits to be received: what is missing of a record now will not come. */
  receivedAll(): void {
    if (this.#restorable.size === 0) return;
    for (const session of this.#restorable) if (!session.removed) this.#restore(session, null, 0);
    this.#restorable.clear();
  }

  /** Whether {@link receivedAll} would find something. */
  get isRestorable(): boolean {
    return this.#restorable.size > 0;
  }

  /** Takes one record that came by the TLS stream of `session`, and attributes it to no other. */
  receiveStreamed(session: Session, record: Uint8Array<ArrayBuffer>): void {
    if (!isWholeRecord(record)) return this.#drops.add("datagram-malformed");
    if (readSessionId(record, 0) !== session.id) return this.#drops.add("session-unknown");
    const epoch = session.findEpoch(readEpoch(record, 0));
    if (epoch === undefined) return this.#drops.add("epoch-unknown");
    const sequence = readSequence(record, 0);
    if (!epoch.window.accepts(sequence)) return this.#drops.add("record-replayed");
    this.#open(session, epoch, sequence, record, 0, record, HEADER_BYTES, null, false);
  }

  /** Takes the datagram at `offset`, and with it the rest of its record if that follows. @returns bytes consumed */
  #datagram(
    bytes: Uint8Array<ArrayBuffer>,
    offset: number,
    size: number,
    end: number,
    from: HostPort,
  ): number {
    const session = this.#sessions.get(readSessionId(bytes, offset));
    if (session === undefined) return this.#dropped("session-unknown", size);
    const epoch = session.findEpoch(readEpoch(bytes, offset));
    if (epoch === undefined) return this.#dropped("epoch-unknown", size);
    const sequence = readSequence(bytes, offset);
    if (!epoch.window.accepts(sequence)) return this.#dropped("record-replayed", size);
    if (session.reassembly.isRestorable) this.#restore(session, bytes, offset);
    if (readPieces(bytes, offset) === 1) {
      this.#open(session, epoch, sequence, bytes, offset, bytes, offset + HEADER_BYTES, from, false);
      return size;
    }
    const first = skipParity(bytes, offset, size, end);
    const together = joinPieces(bytes, first, size, end);
    if (together > 0) {
      this.#open(session, epoch, sequence, bytes, first, bytes, first + HEADER_BYTES, from, false);
      return first - offset + together;
    }
    const nowMs = this.#clock.monotonicMs();
    if (!session.admitsPieces(from, nowMs)) return this.#dropped("endpoint-unproven", size);
    const whole = session.reassembly.add(bytes, offset, size, from, nowMs);
    if (whole !== null) this.#openReassembled(session, epoch, sequence, whole);
    else if (session.reassembly.isRestorable) this.#restorable.add(session);
    return size;
  }

  /** Opens the records that lack one piece and have parity, but for the one that the datagram at `bytes[offset]` is of. */
  #restore(session: Session, bytes: Uint8Array | null, offset: number): void {
    for (;;) {
      const whole = session.reassembly.restore(bytes, offset);
      if (whole === null) return;
      const epoch = session.findEpoch(readEpoch(whole.bytes, 0));
      const sequence = readSequence(whole.bytes, 0);
      if (epoch?.window.accepts(sequence) === true) this.#openReassembled(session, epoch, sequence, whole);
    }
  }

  #openReassembled(
    session: Session,
    epoch: ReceivingEpoch,
    sequence: number,
    { bytes, from, restored }: WholeRecord,
  ): void {
    this.#open(session, epoch, sequence, bytes, 0, bytes, HEADER_BYTES, from, restored);
  }

  #dropped(reason: Parameters<DropCounter["add"]>[0], size: number): number {
    this.#drops.add(reason);
    return size;
  }

  /** Opens the record whose header is at `header[offset]` and whose sealed bytes are at `sealed[start]`. */
  #open(
    session: Session,
    epoch: ReceivingEpoch,
    sequence: number,
    header: Uint8Array<ArrayBuffer>,
    offset: number,
    sealed: Uint8Array<ArrayBuffer>,
    start: number,
    from: HostPort | null,
    restored: boolean,
  ): void {
    const sealedBytes = readLength(header, offset);
    if (this.#inFlightBytes + sealedBytes > OPEN_IN_FLIGHT_BYTES) return this.#drops.add("open-overload");
    const type = readType(header, offset);
    const job = new OpenJob(this, session, epoch, sequence, type, sealedBytes, from, restored);
    this.#jobs.push(job);
    this.#inFlightBytes += sealedBytes;
    this.#engine.open(job, header, offset, sealed, start, start + sealedBytes);
  }

  /** The engine is done with a record; called by the job itself. */
  opened(job: OpenJob): void {
    if (this.#jobs[0] !== job) return;
    let done = 0;
    for (const ready of this.#jobs) {
      const plaintext = ready.body;
      if (plaintext === null && !ready.failed) break;
      this.#inFlightBytes -= ready.sealedBytes;
      done++;
      if (plaintext === null) this.#drops.add("decrypt-failed");
      else {
        if (!ready.session.removed) this.#deliver(ready, plaintext);
        freeBytes(plaintext);
      }
    }
    this.#jobs.splice(0, done);
  }

  /** Stages 5 to 7 for one authentic record. */
  #deliver(job: OpenJob, plaintext: Uint8Array): void {
    const { session, epoch, sequence } = job;
    const nowMs = this.#clock.monotonicMs();
    const news = session.recordOpened(epoch, sequence, nowMs);
    if (news === "replayed") return this.#drops.add("record-replayed");
    if (session.reassembly.records > 0) session.reassembly.discard(epoch.epoch, sequence);
    if (job.restored) session.recordsRestored++;
    if (news === "confirmed") this.#events.epochConfirmed(session, epoch.epoch);
    if (job.type === RecordType.keepalive) return this.#keepalive(job, plaintext, nowMs);
    if (job.type === RecordType.probe) return this.#probe(session, plaintext);
    this.#place(job);
    session.lossReports.dataOpened();
    if (job.type === RecordType.data) this.#writePackets(session, plaintext);
    else if (this.#tun.offload) this.#writeOffloadPackets(session, plaintext);
    else this.#drops.add("offload-malformed");
  }

  /** Moves the endpoint and the path of what we send to where this record came from, if it is the newest. */
  #place({ session, epoch, sequence, from }: OpenJob): void {
    if (session.placeEndpoint(epoch.epoch, sequence, from)) this.#events.endpointMoved(session);
  }

  #keepalive(job: OpenJob, plaintext: Uint8Array, nowMs: number): void {
    const { session, from } = job;
    const message = decodeKeepalive(plaintext);
    if (message === null) return this.#drops.add("packet-malformed");
    const probe = message.probe === true;
    if (!probe) this.#place(job);
    if (message.newPath === true) this.#events.newPath(session);
    this.#events.keepalive(session, from === null ? "tcp" : "udp", message.echo?.sentAtUs ?? null);
    if (session.keepaliveReceived(message, nowMs)) this.#events.replyWanted(session, probe, from);
  }

  #probe(session: Session, plaintext: Uint8Array): void {
    const message = decodeProbe(plaintext);
    if (message === null) return this.#drops.add("packet-malformed");
    this.#events.probeReceived(session, message);
  }

  #writePackets(session: Session, plaintext: Uint8Array): void {
    for (let offset = 0; offset < plaintext.length;) {
      const length = packetLength(plaintext, offset, plaintext.length);
      if (length === 0) return this.#drops.add("packet-malformed");
      clampMss(plaintext, offset, offset + length, this.#mtuBytes, false);
      if (!this.#sessions.sourceAllowed(session, plaintext, offset)) this.#drops.add("source-not-allowed");
      else if (this.#tun.offload) {
        this.#packetBuffer.set(plaintext.subarray(offset, offset + length), VNET_HEADER_BYTES);
        this.#packetBuffer.fill(0, 0, VNET_HEADER_BYTES);
        this.#write(session, this.#packetBuffer, 0, VNET_HEADER_BYTES + length, length, 1);
      } else this.#write(session, plaintext, offset, length, length, 1);
      offset += length;
    }
  }

  #writeOffloadPackets(session: Session, plaintext: Uint8Array): void {
    const end = plaintext.length;
    for (let offset = 0; offset < end;) {
      const packet = offset + VNET_HEADER_BYTES;
      const length = packetLength(plaintext, packet, end);
      if (length === 0) return this.#drops.add("packet-malformed");
      if (!this.#sessions.sourceAllowed(session, plaintext, packet)) this.#drops.add("source-not-allowed");
      else if (!admitOffload(plaintext, offset, length)) this.#drops.add("offload-malformed");
      else if (this.#tun.udpOffload && this.#run.join(plaintext, offset, length, end)) {
        const { consumed, size, packets } = this.#run;
        this.#write(session, plaintext, offset, size, consumed - packets * VNET_HEADER_BYTES, packets);
        offset += consumed;
        continue;
      } else this.#writeOffloadPacket(session, plaintext, offset, length);
      offset = packet + length;
    }
  }

  /** Writes one admitted packet; UDP super-packets are cut up for a kernel that does not know them. */
  #writeOffloadPacket(session: Session, plaintext: Uint8Array, offset: number, length: number): void {
    if (vnetGsoType(plaintext, offset) === GSO_UDP_L4 && !this.#tun.udpOffload) {
      const segments = new Uint8Array(segmentedBytes(plaintext, offset, length));
      writeSegments(plaintext, offset, length, segments, 0);
      return this.#writePackets(session, segments);
    }
    const packets = segmentCount(plaintext, offset, length);
    if (packets === 1) this.#clampMss(plaintext, offset, length);
    this.#write(session, plaintext, offset, VNET_HEADER_BYTES + length, length, packets);
  }

  /** A SYN is never a super-packet; its checksum may be open. */
  #clampMss(plaintext: Uint8Array, offset: number, length: number): void {
    const packet = offset + VNET_HEADER_BYTES;
    const open = (vnetFlags(plaintext, offset) & VNET_NEEDS_CSUM) !== 0;
    clampMss(plaintext, packet, packet + length, this.#mtuBytes, open);
  }

  #write(
    session: Session,
    bytes: Uint8Array,
    offset: number,
    size: number,
    innerBytes: number,
    packets: number,
  ): void {
    const shaper = session.up;
    if (
      shaper === null ||
      this.gate.admit(session, shaper, bytes, offset, offset + size, innerBytes, packets)
    )
      this.#writeNow(session, bytes, offset, size, innerBytes, packets);
  }

  #writeNow(
    session: Session,
    bytes: Uint8Array,
    offset: number,
    size: number,
    innerBytes: number,
    packets: number,
  ): void {
    session.rxPackets += packets;
    session.rxBytes += innerBytes;
    if (this.#tun.write(bytes, offset, size, packets) !== 0) this.#drops.add("tun-write-failed");
  }
}

/** Where the datagram behind the parities of the record at `offset` is, if all of these are here: else `offset`. */
function skipParity(bytes: Uint8Array, offset: number, size: number, end: number): number {
  const groups = readParityGroups(bytes, offset);
  const first = offset + groups * size;
  if (first + HEADER_BYTES > end) return offset;
  for (let group = 0; group < groups; group++) {
    if (!continues(bytes, offset, offset + group * size, parityPiece(groups, group))) return offset;
  }
  return groups === 0 || continues(bytes, offset, first, 0) ? first : offset;
}

/**
 * When the datagrams of one whole record follow each other from `offset` on, moves their pieces together behind the
 * first header, in place.
 *
 * @param size size of the first datagram
 * @param end where the received bytes end
 * @returns bytes that the record's datagrams took, or 0 when the record is not all here (nothing was moved)
 */
export function joinPieces(bytes: Uint8Array, offset: number, size: number, end: number): number {
  const pieces = readPieces(bytes, offset);
  if (readPiece(bytes, offset) !== 0) return 0;
  const payload = size - HEADER_BYTES;
  const total = readLength(bytes, offset) + pieces * HEADER_BYTES;
  if (offset + total > end) return 0;
  for (let i = 1; i < pieces; i++) if (!continues(bytes, offset, offset + i * size, i)) return 0;
  for (let i = 1; i < pieces; i++) {
    const from = offset + i * size + HEADER_BYTES;
    const to = offset + HEADER_BYTES + i * payload;
    bytes.copyWithin(to, from, Math.min(from + payload, offset + total));
  }
  return total;
}

/** Whether the header at `at` is that of piece `piece` of the record whose first header is at `first`. */
function continues(bytes: Uint8Array, first: number, at: number, piece: number): boolean {
  if (readPiece(bytes, at) !== piece || bytes[at] !== bytes[first]) return false;
  for (let i = 2; i < HEADER_BYTES; i++) if (bytes[at + i] !== bytes[first + i]) return false;
  return true;
}
