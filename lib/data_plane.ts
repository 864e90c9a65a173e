/**
 * The data plane: moves packets between TUN and UDP for the sessions that the control plane installs.
 *
 * It owns the two ways (`data_plane_outbound.ts`, `data_plane_inbound.ts`), their sessions and one timer, and speaks
 * `data_plane_message.ts` with the control plane. It neither knows nor cares in which thread it runs.
 */

import type { HostPort } from "./address.ts";
import type { Clock } from "./clock.ts";
import { Inbound } from "./data_plane_inbound.ts";
import type {
  AddSession,
  EpochKeys,
  FromDataPlane,
  RateLimit,
  SessionRates,
  SessionStats,
  SetStream,
  StartData,
  StatsReport,
  ToDataPlane,
  TransportChoice,
  TransportName,
  TunnelDrained,
  TunnelIn,
} from "./data_plane_message.ts";
import { Outbound, type StreamWay } from "./data_plane_outbound.ts";
import { DropCounter } from "./drop_counter.ts";
import { StreamOutput } from "./data_plane_stream.ts";
import type { DataLoop } from "./data_loop.ts";
import type { Engine } from "./engine.ts";
import { encodeKeepalive } from "./keepalive.ts";
import { IPV4_OUTER_HEADER_BYTES, OUTER_HEADER_BYTES } from "./limits.ts";
import { encodeProbe, type ProbeMessage } from "./probe_message.ts";
import { RecordType } from "./protocol.ts";
import { RateShaper } from "./rate_limit.ts";
import type { MessageWay } from "./seal_job.ts";
import { type RecordKeys, Session } from "./session.ts";
import { SessionPaths } from "./session_paths.ts";
import { SessionTable } from "./session_table.ts";
import type { PacketDevice } from "./tun.ts";
import { TunRouter } from "./tun_router.ts";
import type { DatagramSocket } from "./udp.ts";

/** How often time-outs, keep-alives and probes are looked at: twice in the time between two rounds of probes. */
const TICK_MS = 50;
/** Ticks between two reports that nobody asked for. */
const TICKS_PER_REPORT = 20;
/** Least time between two answers to "reply wanted" of one session: it must not become a packet generator. */
const REPLY_EVERY_MS = 10;

/** No limit of speed. */
const NO_LIMIT: RateLimit = { bitsPerSecond: null, packetsPerSecond: null };

/** One running data plane. */
export class DataPlane {
  readonly #udp: DatagramSocket;
  readonly #loop: DataLoop;
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #emit: (message: FromDataPlane) => void;
  readonly #sessions = new SessionTable();
  readonly #drops = new DropCounter();
  readonly #outbound: Outbound;
  readonly #inbound: Inbound;
  readonly #keepaliveMs: number;
  readonly #maxDatagramBytes: number;
  readonly #paths = new Map<number, SessionPaths>();
  /** A client's choice; null at a server. */
  readonly #transport: TransportChoice | null;
  /** By session and path. */
  readonly #lastReplyMs = new WeakMap<Session, Partial<Record<TransportName, number>>>();
  #timer: ReturnType<typeof setInterval> | null = null;
  #ticks = 0;
  /** Records that the engine could not take, at the last tick. */
  #overload = 0;
  #lastUdpError: string | null = null;

  constructor(
    start: StartData,
    tun: PacketDevice,
    udp: DatagramSocket,
    loop: DataLoop,
    engine: Engine,
    clock: Clock,
    emit: (message: FromDataPlane) => void,
  ) {
    this.#loop = loop;
    this.#engine = engine;
    this.#udp = udp;
    this.#clock = clock;
    this.#emit = emit;
    this.#keepaliveMs = start.keepaliveMs;
    const { maxDatagramBytes } = start;
    this.#maxDatagramBytes = maxDatagramBytes;
    this.#transport = start.role === "server" ? null : (start.transport ?? "auto");
    const router = new TunRouter(tun, this.#drops, clock, start.mtuBytes, start.role === "server", (error) =>
      this.#sendPacket(error),
    );
    this.#outbound = new Outbound(
      tun,
      udp,
      this.#sessions,
      this.#drops,
      engine,
      router,
      clock,
      this.#streamWay(),
    );
    this.#inbound = new Inbound(tun, this.#sessions, this.#drops, engine, clock, start.mtuBytes, {
      epochConfirmed: (session, epoch) => this.#epochConfirmed(session, epoch),
      endpointMoved: (session) => this.#endpointMoved(session),
      replyWanted: (session, probe, from) => this.#reply(session, probe, from),
      keepalive: (session, path, echoUs) =>
        this.#paths.get(session.id)?.keepaliveReceived(path, echoUs, clock.monotonicMs()),
      newPath: (session) => this.#newPathTold(session),
      probeReceived: (session, message) => this.#probeReceived(session, message),
    });
  }

  /** Says that the socket is bound and messages are heard. */
  ready(): void {
    this.#emit({ kind: "ready", port: this.#udp.port });
  }

  /** Starts moving packets. */
  run(): void {
    this.#timer = setInterval(() => this.tick(), TICK_MS);
    const ways = { inbound: this.#inbound, outbound: this.#outbound, engine: this.#engine };
    this.#loop.start(ways, (error) => {
      const reason = error instanceof Error ? error.message : String(error);
      this.#emit({
        kind: "failed",
        errorName: "SystemError",
        message: `Cannot read the TUN device: ${reason}`,
      });
    });
  }

  /** Packets that the sessions of now have carried, both ways. */
  get packets(): number {
    let packets = 0;
    for (const session of this.#sessions.all()) packets += session.rxPackets + session.txPackets;
    return packets;
  }

  /** Carries out one message of the control plane. */
  handle(message: Exclude<ToDataPlane, StartData>): void {
    switch (message.kind) {
      case "add-session":
        return this.#addSession(message);
      case "set-epoch": {
        const session = this.#sessions.get(message.id);
        session?.installEpoch(this.#prepare(message.keys), message.sendNow);
        if (session === undefined) return;
        this.#speak(session);
        this.#probePath(session);
        return;
      }
      case "set-rates":
        return this.#setRates(this.#sessions.get(message.id), message.rates);
      case "set-allowed-ips":
        return this.#sessions.setAllowedIps(message.id, message.allowedIps);
      case "remove-session":
        this.#paths.delete(message.id);
        return this.#sessions.remove(message.id);
      case "set-stream":
        return this.#setStream(message);
      case "tunnel-in":
        return this.#tunnelIn(message);
      case "tunnel-drained":
        return this.#tunnelDrained(message);
      case "probe-paths":
        return this.#probePaths();
      case "get-stats":
        return this.#emit(this.#report(message.requestId));
      case "stop":
        return this.#stop();
    }
  }

  /** What time brings: keep-alives, forgotten epochs and pieces, reports. Called by the timer; tests call it too. */
  tick(): void {
    const nowMs = this.#clock.monotonicMs();
    this.#noteOverload();
    for (const session of this.#sessions.all()) {
      const expired = session.reassembly.expire(nowMs);
      if (expired > 0) this.#drops.add("reassembly-timeout", expired);
      const overflowed = session.reassembly.takeOverflowed();
      if (overflowed > 0) this.#drops.add("reassembly-overflow", overflowed);
      const sending = session.sending;
      if (sending !== null && session.takeRekeyWish()) {
        this.#emit({ kind: "rekey-needed", id: session.id, epoch: sending.epoch });
      }
      this.#lookAtPaths(session, nowMs);
      this.#speak(session);
      this.#probePath(session);
      if (session.sending !== null && session.lossReports.due(session.recordsHit, nowMs)) {
        this.#sendKeepalive(session, session.path, false, false);
      }
    }
    if (++this.#ticks % TICKS_PER_REPORT === 0) {
      this.#emit(this.#report(0));
      this.#reportUdpError();
    }
  }

  /** What our own socket or engine could not take is no loss of the path; nobody can tell whose it was. */
  #noteOverload(): void {
    const overflowed = this.#udp.takeOverflowed();
    const overload = this.#drops.count("open-overload") + overflowed;
    if (overflowed > 0) this.#drops.add("socket-overflow", overflowed);
    if (overload === this.#overload) return;
    this.#overload = this.#drops.count("open-overload");
    for (const session of this.#sessions.all()) session.overloaded = true;
  }

  /** Keys in the engine's form. */
  #prepare(keys: EpochKeys): RecordKeys {
    return {
      ...keys,
      sendKey: this.#engine.prepareKey(keys.sendKey),
      receiveKey: this.#engine.prepareKey(keys.receiveKey),
    };
  }

  #addSession(message: AddSession): void {
    const { id, peerOffload, endpoint, allowedIps, rates } = message;
    const session = new Session(
      id,
      peerOffload,
      endpoint ?? null,
      this.#keepaliveMs,
      this.#maxDatagramBytes,
      this.#clock.monotonicMs(),
      this.#engine.name === "sync",
    );
    this.#setRates(session, rates ?? null);
    session.followsPath = this.#transport === null;
    const nowMs = this.#clock.monotonicMs();
    this.#paths.set(id, new SessionPaths(session, this.#transport, this.#keepaliveMs, nowMs));
    this.#sessions.add(session, allowedIps);
  }

  /** A limit that is lifted stays as an endless one, behind which what waits goes out in order. */
  #setRates(session: Session | undefined, rates: SessionRates | null): void {
    if (session === undefined || (rates === null && session.up === null)) return;
    const { up, down } = rates ?? { up: NO_LIMIT, down: NO_LIMIT };
    session.up ??= new RateShaper(up);
    session.down ??= new RateShaper(down);
    session.up.setLimit(up);
    session.down.setLimit(down);
    this.#inbound.gate.changed(session.up);
    this.#outbound.gate.changed(session.down);
  }

  /** Sends the keep-alive that is due, if one is. */
  #speak(session: Session): void {
    const due = session.tick(this.#clock.monotonicMs());
    if (due !== null) this.#sendKeepalive(session, session.path, due === "confirm", false);
  }

  #sendKeepalive(session: Session, path: TransportName, replyWanted: boolean, probe: boolean): void {
    const nowMs = this.#clock.monotonicMs();
    const message = session.keepaliveMessage(replyWanted, nowMs, probe);
    if (replyWanted) this.#paths.get(session.id)?.asked(path, message.sentAtUs, nowMs);
    const aside = path === session.path ? null : path === "tcp" ? "stream" : session.endpoint;
    this.#outbound.sendMessage(session, RecordType.keepalive, encodeKeepalive(message), aside);
  }

  /** Answers a probe where it came from, all else where the session is. */
  #reply(session: Session, probe: boolean, from: HostPort | null): void {
    const nowMs = this.#clock.monotonicMs();
    const path = from === null ? "tcp" : "udp";
    const last = this.#lastReplyMs.get(session) ?? {};
    if (nowMs - (last[path] ?? -Infinity) < REPLY_EVERY_MS) return;
    this.#lastReplyMs.set(session, { ...last, [path]: nowMs });
    const message = session.keepaliveMessage(false, nowMs, probe);
    const aside: MessageWay | null = probe ? (from ?? "stream") : null;
    this.#outbound.sendMessage(session, RecordType.keepalive, encodeKeepalive(message), aside);
  }

  // --- Paths ---

  /** Asks what is to be asked, and tells what has changed. */
  #lookAtPaths(session: Session, nowMs: number): void {
    const paths = this.#paths.get(session.id);
    if (paths === undefined || session.sending === null) return;
    const { id } = session;
    const { asks, moved, presence } = paths.tick(nowMs);
    if (moved !== null) {
      this.#emit({ kind: "transport-moved", id, ...moved });
      // what waited for the stream may go by UDP now
      this.#outbound.unblock();
    }
    if (presence !== null) this.#emit({ kind: "presence-changed", id, ...presence });
    for (const { path, probe } of asks) this.#sendKeepalive(session, path, true, probe);
  }

  #streamWay(): StreamWay {
    const output = new StreamOutput(this.#emit, this.#clock);
    const paths = this.#paths;
    return {
      send: (session, header, body, tag, urgent) => {
        const own = paths.get(session.id);
        return own === undefined ? "failed" : output.push(session.id, own, header, body, tag, urgent);
      },
      isLate: (session, sealingBytes) => paths.get(session.id)?.window.isLate(sealingBytes) === true,
      flush: () => output.flush(),
      get isAlone() {
        return paths.size === 1;
      },
    };
  }

  #setStream({ id, up }: SetStream): void {
    this.#paths.get(id)?.streamChanged(up);
    const session = this.#sessions.get(id);
    if (session !== undefined) this.#lookAtPaths(session, this.#clock.monotonicMs());
    this.#outbound.unblock();
  }

  #tunnelIn({ id, records }: TunnelIn): void {
    const session = this.#sessions.get(id);
    let bytes = 0;
    for (const record of records) {
      bytes += record.length;
      if (session !== undefined) this.#inbound.receiveStreamed(session, record);
    }
    this.#emit({ kind: "tunnel-taken", id, bytes });
  }

  #tunnelDrained({ id, bytes }: TunnelDrained): void {
    this.#paths.get(id)?.window.drained(bytes, this.#clock.monotonicMs());
    this.#outbound.unblock();
  }

  #probePaths(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const session of this.#sessions.all()) {
      this.#paths.get(session.id)?.doubt();
      session.outerPath.moved(nowMs);
      session.followPath();
      this.#lookAtPaths(session, nowMs);
      this.#probePath(session);
    }
  }

  #epochConfirmed(session: Session, epoch: number): void {
    this.#emit({ kind: "epoch-confirmed", id: session.id, epoch });
    // the sending key may work only since now
    this.#probePath(session);
  }

  /** Sends the probes that are due, and takes over what is known of the path by now. */
  #probePath(session: Session): void {
    // while records travel in the stream there is no path to measure
    if (session.sending === null || session.endpoint === null || session.path !== "udp") return;
    for (const probe of session.outerPath.poll(this.#clock.monotonicMs()))
      this.#sendProbe(session, "probe", probe);
    session.followPath();
    const news = session.outerPath.takeNews();
    if (news === null) return;
    this.#emit({ kind: "notice", level: "info", message: `path MTU of session ${session.id}: ${news}` });
  }

  #sendProbe(session: Session, kind: ProbeMessage["kind"], probe: Omit<ProbeMessage, "kind">): void {
    const message = { kind, number: probe.number, datagramBytes: probe.datagramBytes };
    const aside = session.path === "udp" ? null : session.endpoint;
    this.#outbound.sendMessage(session, RecordType.probe, encodeProbe(message), aside);
  }

  /** Sends an IP packet of our own to the session of its destination. @returns false when none has it */
  #sendPacket(packet: Uint8Array<ArrayBuffer>): boolean {
    const session = this.#sessions.byDestination(packet, 0);
    if (session === undefined) return false;
    this.#outbound.sendMessage(session, RecordType.data, packet, null);
    return true;
  }

  #probeReceived(session: Session, message: ProbeMessage): void {
    const nowMs = this.#clock.monotonicMs();
    if (message.kind === "probe") {
      if (session.endpoint !== null && session.outerPath.probed(message.datagramBytes, nowMs))
        this.#sendProbe(session, "ack", message);
      return;
    }
    session.outerPath.acked(message.number, nowMs);
    this.#probePath(session);
  }

  #endpointMoved(session: Session): void {
    const endpoint = session.endpoint;
    if (endpoint === null) return;
    // no probe at once: an endpoint that moves with every record must not be answered by a large datagram each time
    session.outerPath.moved(this.#clock.monotonicMs());
    session.followPath();
    this.#emit({ kind: "endpoint-moved", id: session.id, endpoint: { ...endpoint } });
  }

  /** The peer's network has changed, though its address, as we see it, may be the same. */
  #newPathTold(session: Session): void {
    session.outerPath.told(this.#clock.monotonicMs());
    session.followPath();
  }

  #report(requestId: number): StatsReport {
    const nowMs = this.#clock.monotonicMs();
    const sessions = Array.from(this.#sessions.all(), (session) => statsOf(session, nowMs));
    return { kind: "stats", requestId, sessions, drops: this.#drops.snapshot() };
  }

  #reportUdpError(): void {
    const error = this.#udp.lastError;
    if (error === null || error === this.#lastUdpError) return;
    this.#lastUdpError = error;
    this.#emit({ kind: "notice", level: "warn", message: `UDP error: ${error}` });
  }

  #stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#inbound.gate.close();
    this.#outbound.gate.close();
    this.#loop.stop();
    this.#udp.close();
    this.#emit({ kind: "stopped" });
  }
}

/** The IP packet that carries the largest datagram known to arrive. */
function pathMtuOf({ endpoint, outerPath: path }: Session): number | null {
  if (endpoint === null || !path.isKnown) return null;
  return path.maxDatagramBytes + (endpoint.host.includes(":") ? OUTER_HEADER_BYTES : IPV4_OUTER_HEADER_BYTES);
}

function statsOf(session: Session, nowMs: number): SessionStats {
  return {
    id: session.id,
    endpoint: session.endpoint === null ? null : { ...session.endpoint },
    transport: session.path,
    epoch: session.sending?.epoch ?? null,
    rxBytes: session.rxBytes,
    txBytes: session.txBytes,
    rxPackets: session.rxPackets,
    txPackets: session.txPackets,
    rxRecords: session.recordsSeen,
    txRecords: session.txRecords,
    silentMs: session.lastReceivedMs === null ? null : nowMs - session.lastReceivedMs,
    rttMs: session.rttMs,
    lossPercent: session.lossPercent,
    recordLimit: session.recordLimit,
    datagramBytes: session.outerPath.maxDatagramBytes,
    pathMtu: pathMtuOf(session),
  };
}
