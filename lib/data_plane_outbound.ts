/**
 * The way out: from the TUN device to the UDP socket.
 *
 * Stages of a packet (one thread; only sealing leaves it):
 *  1. read     - everything that waits in the TUN, back to back in one buffer             sequential
 *  2. route    - the destination's session by longest prefix; a rate-limited one waits   sequential
 *  3. gather   - the packets for one session become one record, up to its limit          sequential
 *  4. number   - epoch and sequence, header                                              sequential
 *  5. seal     - one Web Crypto call a record                                            parallel
 *  6. transmit - in the order of the numbers, cut into datagrams, one send a record,     sequential
 *                with its parity on a path that loses datagrams
 *
 * At most SEAL_IN_FLIGHT_BYTES are between 4 and 6; beyond that, and while the socket is full, the TUN is not read, so
 * queues build up in the kernel, where TCP's pacing and the interface's queue discipline see them.
 */

import type { HostPort } from "./address.ts";
import { concatBytes, freeBytes } from "./bytes.ts";
import type { Clock } from "./clock.ts";
import type { DropCounter } from "./drop_counter.ts";
import type { Engine } from "./engine.ts";
import {
  datagramsPerSend,
  HEADER_BYTES,
  MAX_MTU_BYTES,
  MAX_PIECES,
  MAX_SEND_BYTES,
  SEAL_IN_FLIGHT_BYTES,
  TAG_BYTES,
  VNET_HEADER_BYTES,
} from "./limits.ts";
import { PacketSorter } from "./packet_sorter.ts";
import { packetLength } from "./packet.ts";
import { writeParity } from "./parity.ts";
import { pieceSize, piecesFor, readLength, readType, RecordType, writeHeader } from "./protocol.ts";
import { RateGate } from "./rate_gate.ts";
import type { QueuedPacket, RateShaper } from "./rate_limit.ts";
import { parityGroups } from "./record_limit.ts";
import { RoutingLoop } from "./routing_loop.ts";
import { type MessageWay, SealJob } from "./seal_job.ts";
import { segmentCount, segmentedBytes, writeSegments } from "./segment.ts";
import { splitBytes, writeSplit } from "./segment_split.ts";
import type { Session } from "./session.ts";
import type { SessionTable } from "./session_table.ts";
import type { PacketDevice } from "./tun.ts";
import type { TunRouter } from "./tun_router.ts";
import type { DatagramSocket, SendResult } from "./udp.ts";
import { GSO_NONE, vnetGsoType } from "./vnet_header.ts";
import { finishChecksum, isPlain } from "./vnet_packet.ts";

/** The way into the TLS streams of the sessions. */
export interface StreamWay {
  /** @returns "full" when the stream has no room now ({@link Outbound.unblock} follows), "failed" when there is none */
  send(
    session: Session,
    header: Uint8Array,
    body: Uint8Array,
    tag: Uint8Array | null,
    urgent: boolean,
  ): SendResult;
  /** Whether a packet that is read now would wait too long in front of the session's stream. */
  isLate(session: Session, sealingBytes: number): boolean;
  /** Nothing more follows in this turn. */
  flush(): void;
  /** Whether a full stream holds everything up, because there is one peer only; else its records are dropped. */
  readonly isAlone: boolean;
}

/** Voice, name queries, acknowledgements: they are no reason for a long queue, and are not dropped for it. */
const SMALL_PACKET_BYTES = 256;
/** Room for one super-packet cut up for a peer without offload: its headers come back once per segment. */
const SEGMENT_BUFFER_BYTES = 2 * 65_536 + MAX_MTU_BYTES;

/** Packets of one read that are looked at together for neighbours, and their bytes. */
const SORTED_PACKETS = 128;
const SORTED_BYTES = 2 * 65_536;

/** All of the parities of a record leave with it by one send. */
const PARITY_BUFFER_BYTES = MAX_SEND_BYTES;

/** Drives the way out; see the top of the file. */
export class Outbound {
  /** What holds rate-limited sessions back. */
  readonly gate: RateGate<Session>;
  readonly #tun: PacketDevice;
  readonly #udp: DatagramSocket;
  readonly #sessions: SessionTable;
  readonly #drops: DropCounter;
  readonly #engine: Engine;
  readonly #router: TunRouter;
  readonly #clock: Clock;
  readonly #streams: StreamWay;
  readonly #loop = new RoutingLoop();
  readonly #segmentBuffer = new Uint8Array(SEGMENT_BUFFER_BYTES);
  readonly #sorter = new PacketSorter<Session>(SORTED_PACKETS, SORTED_BYTES);
  readonly #parityBuffer = new Uint8Array(PARITY_BUFFER_BYTES);
  readonly #jobs: SealJob[] = [];
  #inFlightBytes = 0;
  #blocked: "socket" | "stream" | null = null;
  #roomWanted: (() => void) | null = null;

  // the open record: a range of one buffer whose packets all go to one session
  #recordSession: Session | null = null;
  #recordBytes = new Uint8Array(0);
  #recordStart = 0;
  #recordEnd = 0;
  #recordReads = 0;
  #recordPackets = 0;

  constructor(
    tun: PacketDevice,
    udp: DatagramSocket,
    sessions: SessionTable,
    drops: DropCounter,
    engine: Engine,
    router: TunRouter,
    clock: Clock,
    streams: StreamWay,
  ) {
    this.gate = new RateGate({
      offload: tun.offload,
      clock,
      release: (session, packets) => this.#release(session, packets),
      dropped: (packets) => drops.add("rate-limited-down", packets),
    });
    this.#tun = tun;
    this.#udp = udp;
    this.#sessions = sessions;
    this.#drops = drops;
    this.#engine = engine;
    this.#router = router;
    this.#clock = clock;
    this.#streams = streams;
    udp.onDrain(() => this.unblock());
  }

  /** Whether more packets may come: what is being sealed is bounded, and the socket takes more. */
  get hasRoom(): boolean {
    return this.#inFlightBytes < SEAL_IN_FLIGHT_BYTES && this.#blocked === null;
  }

  /** Whether records wait for the socket. */
  get isBlocked(): boolean {
    return this.#blocked === "socket";
  }

  /** Calls `back` once there is room again. */
  whenRoom(back: () => void): void {
    this.#roomWanted = back;
  }

  /** Sends the packets of `bytes[start..end)`, which stand back to back. */
  packets(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): void {
    this.#take(bytes, start, end);
    this.#sorter.drain(bytes, this.#gatherSorted);
    this.#flush();
    this.#streams.flush();
  }

  /** Goes on after the socket or a stream was full. */
  unblock(): void {
    if (this.#blocked === null) return;
    this.#blocked = null;
    this.#transmitReady();
    this.#streams.flush();
  }

  /**
   * Sends one record whose plaintext is `plaintext` of type `type`, in turn with the packets and where they go; a
   * probe in one piece.
   *
   * @param aside another way, taken at once: packets that wait for one path must not delay what asks for the other
   */
  sendMessage(
    session: Session,
    type: RecordType,
    plaintext: Uint8Array<ArrayBuffer>,
    aside: MessageWay | null,
  ): void {
    this.#seal(session, type, plaintext, 0, aside);
    this.#streams.flush();
  }

  /** Routes and gathers the packets of `bytes[start..end)`. */
  #take(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): void {
    const headerBytes = this.#tun.offload ? VNET_HEADER_BYTES : 0;
    let offset = start;
    while (offset < end) {
      const packet = offset + headerBytes;
      const length = packetLength(bytes, packet, end);
      if (length === 0) {
        this.#drops.add("tun-packet-malformed");
        return;
      }
      const session = this.#sessions.byDestination(bytes, packet);
      const next = packet + length;
      if (session === undefined) this.#router.noSession(bytes, packet, next);
      else if (this.#isOwn(session, bytes, packet, next)) this.#drops.add("routing-loop");
      else if (length > SMALL_PACKET_BYTES && this.#isLate(session)) this.#drops.add("stream-full");
      else if (this.#router.forwards(bytes, offset, packet, next)) {
        if (session.down === null) this.#put(session, bytes, offset, next);
        else this.#holdBack(session, session.down, bytes, offset, next);
      }
      offset = next;
    }
  }

  /** Whether a packet for a session is what we sent to it: its endpoint is routed into the tunnel. */
  #isOwn(session: Session, bytes: Uint8Array, packet: number, end: number): boolean {
    const { endpoint } = session;
    return endpoint !== null && this.#loop.closes(bytes, packet, end, endpoint, this.#udp.port);
  }

  /** Whether a packet for a session would wait too long in front of its stream. */
  #isLate(session: Session): boolean {
    return session.path === "tcp" && this.#streams.isLate(session, this.#inFlightBytes);
  }

  /** A packet of a rate-limited session, virtio header included. */
  #holdBack(
    session: Session,
    shaper: RateShaper,
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
  ): void {
    const length = end - start - (this.#tun.offload ? VNET_HEADER_BYTES : 0);
    const packets = this.#tun.offload ? segmentCount(bytes, start, length) : 1;
    if (this.gate.admit(session, shaper, bytes, start, end, length, packets))
      this.#put(session, bytes, start, end);
  }

  /** What was held back goes on as if it had just been read. */
  #release(session: Session, packets: readonly QueuedPacket[]): void {
    const bytes = concatBytes(...packets.map((packet) => packet.bytes));
    let offset = 0;
    for (const packet of packets) {
      this.#gather(session, bytes, offset, offset + packet.bytes.length);
      offset += packet.bytes.length;
    }
    this.#flush();
    this.#streams.flush();
  }

  /** A packet of the read that is `bytes`: with several sessions, it is gathered when all of the read are known. */
  #put(session: Session, bytes: Uint8Array<ArrayBuffer>, start: number, end: number): void {
    if (this.#sessions.size === 1) return this.#gather(session, bytes, start, end);
    if (!this.#sorter.hasRoom(end - start)) {
      this.#sorter.drain(bytes, this.#gatherSorted);
      this.#flush();
    }
    this.#sorter.add(session, start, end);
  }

  readonly #gatherSorted = (
    session: Session,
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
  ): void => this.#gather(session, bytes, start, end);

  /** Puts the packet `bytes[start..end)`, virtio header included, into the open record. */
  #gather(session: Session, bytes: Uint8Array<ArrayBuffer>, start: number, end: number): void {
    if (this.#tun.offload && !this.#travelsWhole(session, bytes, start, end)) {
      this.#flush();
      if (session.peerOffload && isPlain(bytes, start)) this.#sendSplit(session, bytes, start, end);
      else this.#sendSegmented(session, bytes, start, end);
      return;
    }
    const fits =
      session === this.#recordSession &&
      bytes === this.#recordBytes &&
      start === this.#recordEnd &&
      end - this.#recordStart <= session.recordLimit;
    if (!fits) {
      this.#flush();
      this.#recordSession = session;
      this.#recordBytes = bytes;
      this.#recordStart = start;
    }
    this.#recordEnd = end;
    this.#recordReads++;
    this.#recordPackets += this.#tun.offload
      ? segmentCount(bytes, start, end - start - VNET_HEADER_BYTES)
      : 1;
  }

  /** Whether a packet with its virtio header fits a record, and the peer will take the two. */
  #travelsWhole(session: Session, bytes: Uint8Array, start: number, end: number): boolean {
    if (!session.peerOffload || !isPlain(bytes, start)) return false;
    // a full packet of its own leaves without its virtio header
    return end - start <= session.recordLimit || vnetGsoType(bytes, start) === GSO_NONE;
  }

  /** Closes the open record and hands it to the sealer. */
  #flush(): void {
    const session = this.#recordSession;
    if (session === null) return;
    const bytes = this.#recordBytes;
    const start = this.#recordStart;
    const alone = this.#recordReads === 1;
    const packets = this.#recordPackets;
    this.#recordSession = null;
    this.#recordReads = 0;
    this.#recordPackets = 0;
    if (!this.#tun.offload) {
      this.#seal(session, RecordType.data, bytes.subarray(start, this.#recordEnd), packets);
    } else if (alone && vnetGsoType(bytes, start) === GSO_NONE) {
      // one ordinary packet travels without its virtio header: a full one must fit one datagram
      finishChecksum(bytes, start, this.#recordEnd);
      this.#seal(
        session,
        RecordType.data,
        bytes.subarray(start + VNET_HEADER_BYTES, this.#recordEnd),
        packets,
      );
    } else {
      this.#seal(session, RecordType.offload, bytes.subarray(start, this.#recordEnd), packets);
    }
  }

  /** For a path that is too bad for so large a record: smaller super-packets, each a record. */
  #sendSplit(session: Session, bytes: Uint8Array, start: number, end: number): void {
    const length = end - start - VNET_HEADER_BYTES;
    const limit = session.recordLimit;
    if (splitBytes(bytes, start, length, limit) > SEGMENT_BUFFER_BYTES) {
      this.#drops.add("tun-packet-malformed");
      return;
    }
    const out = this.#segmentBuffer;
    const written = writeSplit(bytes, start, length, limit, out, 0, true);
    for (let at = 0; at < written;) {
      const packet = at + VNET_HEADER_BYTES;
      const next = packet + Math.max(1, packetLength(out, packet, written));
      if (vnetGsoType(out, at) === GSO_NONE)
        this.#seal(session, RecordType.data, out.subarray(packet, next), 1);
      else {
        const packets = segmentCount(out, at, next - packet);
        this.#seal(session, RecordType.offload, out.subarray(at, next), packets);
      }
      at = next;
    }
  }

  /** For a peer that takes no virtio headers, or not so large a record: ordinary packets, as many a record as fit. */
  #sendSegmented(session: Session, bytes: Uint8Array, start: number, end: number): void {
    const length = end - start - VNET_HEADER_BYTES;
    if (segmentedBytes(bytes, start, length) > SEGMENT_BUFFER_BYTES) {
      this.#drops.add("tun-packet-malformed");
      return;
    }
    const out = this.#segmentBuffer;
    const written = writeSegments(bytes, start, length, out, 0);
    let from = 0;
    let packets = 0;
    for (let at = 0; at < written;) {
      const next = at + Math.max(1, packetLength(out, at, written));
      if (next - from > session.recordLimit) {
        this.#seal(session, RecordType.data, out.subarray(from, at), packets);
        from = at;
        packets = 0;
      }
      packets++;
      at = next;
    }
    this.#seal(session, RecordType.data, out.subarray(from, written), packets);
  }

  #seal(
    session: Session,
    type: RecordType,
    plaintext: Uint8Array<ArrayBuffer>,
    packets: number,
    aside: MessageWay | null = null,
  ): void {
    const sending = session.sending;
    if (sending === null) return this.#drops.add("no-key");
    if (aside === null && session.path === "udp" && session.endpoint === null)
      return this.#drops.add("no-endpoint");
    const sealedBytes = plaintext.length + TAG_BYTES;
    const path = session.outerPath;
    // the limit of records in the stream does not follow the path, and the stream does not cut them
    const pieces =
      type === RecordType.probe ? 1 : Math.min(MAX_PIECES, piecesFor(sealedBytes, path.maxDatagramBytes));
    const datagramBytes = HEADER_BYTES + pieceSize(sealedBytes, pieces);
    if (datagramBytes > path.largestSentBytes && type !== RecordType.probe)
      path.largestSentBytes = datagramBytes;
    const parityGroups = session.path === "udp" ? parityGroupsFor(session, pieces, datagramBytes) : 0;
    const sequence = session.takeSequence(sending, pieces + parityGroups, parityGroups > 0);
    if (sequence < 0) return this.#drops.add("key-worn-out");
    session.txPackets += packets;
    if (packets > 0) session.txBytes += plaintext.length;
    const job = new SealJob(this, session, sending, plaintext.length, pieces, parityGroups, aside);
    writeHeader(job.header, 0, type, sealedBytes, session.id, sending.epoch, pieces, sequence);
    if (aside === null) this.#jobs.push(job);
    this.#inFlightBytes += plaintext.length;
    this.#engine.seal(job, job.header, plaintext);
  }

  /** The engine is done with a record; called by the job itself. */
  sealed(job: SealJob): void {
    if (job.aside !== null) return this.#transmitAside(job, job.aside);
    if (this.#blocked !== null || this.#jobs[0] !== job) return;
    this.#transmitReady();
    // what settles inside `packets` is flushed at its end
    if (this.#engine.name !== "sync") this.#streams.flush();
  }

  #transmitAside(job: SealJob, way: MessageWay): void {
    const { body, session } = job;
    this.#inFlightBytes -= job.plaintextBytes;
    if (body === null) return this.#drops.add("seal-failed");
    if (session.removed) return;
    if (way !== "stream") return void this.#transmitTo(way, job, body);
    if (this.#streams.send(session, job.header, body, job.tag, true) === "failed")
      this.#drops.add("no-endpoint");
    this.#streams.flush();
  }

  /** Sends the sealed records at the head of the queue, in order. */
  #transmitReady(): void {
    let done = 0;
    for (const job of this.#jobs) {
      const body = job.body;
      if (body === null && !job.failed) break;
      if (body === null) this.#drops.add("seal-failed");
      else if (!job.session.removed && !this.#transmit(job, body)) {
        this.#blocked = job.session.path === "tcp" ? "stream" : "socket";
        break;
      }
      if (body !== null) freeBytes(body);
      this.#inFlightBytes -= job.plaintextBytes;
      done++;
    }
    this.#jobs.splice(0, done);
    if (this.#roomWanted !== null && this.hasRoom) {
      const wanted = this.#roomWanted;
      this.#roomWanted = null;
      wanted();
    }
  }

  /** @returns false when the socket or stream is full and the record must be sent again later */
  #transmit(job: SealJob, body: Uint8Array<ArrayBuffer>): boolean {
    const { endpoint, path } = job.session;
    if (path === "tcp") return this.#transmitByStream(job, body);
    if (endpoint !== null) return this.#transmitTo(endpoint, job, body);
    this.#drops.add("no-endpoint");
    return true;
  }

  #transmitByStream({ session, header, tag }: SealJob, body: Uint8Array): boolean {
    const result = this.#streams.send(session, header, body, tag, false);
    if (result === "failed") this.#drops.add("no-endpoint");
    if (result !== "full" || this.#streams.isAlone) return result !== "full";
    this.#drops.add("stream-full");
    return true;
  }

  #transmitTo(endpoint: HostPort, job: SealJob, body: Uint8Array<ArrayBuffer>): boolean {
    const { header, tag, pieces } = job;
    const parity = job.parityGroups > 0 ? this.#parityOf(body, tag, pieces, job.parityGroups) : null;
    let result = this.#udp.sendRecord(header, body, tag, parity, pieces, endpoint);
    if (result === "too-large") {
      const datagramBytes = HEADER_BYTES + pieceSize(readLength(header, 0), pieces);
      job.session.outerPath.tooBig(datagramBytes, this.#clock.monotonicMs());
      if (readType(header, 0) === RecordType.probe) return true;
      // it was sealed as it is: the kernel cuts it this once
      result = this.#udp.sendFragments(header, body, tag, parity, pieces, endpoint);
    }
    if (result === "failed") this.#drops.add("send-failed");
    return result !== "full";
  }

  /** @returns a view of one buffer, good until the next call */
  #parityOf(body: Uint8Array, tag: Uint8Array | null, pieces: number, groups: number): Uint8Array {
    const bytes = writeParity(this.#parityBuffer, body, tag, pieces, groups);
    return this.#parityBuffer.subarray(0, bytes);
  }
}

/** Groups of pieces to send parity for: as many as the path asks for, and as still leave by one send. */
function parityGroupsFor(session: Session, pieces: number, datagramBytes: number): number {
  if (pieces === 1 || !session.parity) return 0;
  const room = datagramsPerSend(datagramBytes) - pieces;
  return Math.max(0, Math.min(parityGroups(session.pathLoss, pieces), room));
}
