/**
 * The loop on poll(2): one thread that sleeps in the kernel until the TUN or the socket has something, Linux only.
 *
 * A turn takes in what the socket has, then what the TUN has, each up to a bound so that neither starves the other, and
 * asks again at once as long as there is much; else it ends in poll(2). While the engine has records on other threads
 * the turn ends in Bun's event loop instead, where their results arrive, and each result begins the next turn. Messages
 * of the control plane and timers need the event loop, too: it gets a turn when the eventfd says that a message was
 * posted, and every YIELD_MS. What rate-limited sessions wait for comes more often than that, so the loop sees to it
 * itself.
 *
 * A wait for an answer gives the processor away between two looks, and once before the first: the peer's process, the
 * program that is to answer or the one that is answered may have been woken on this very processor.
 */

import { BusyWait } from "./busy_wait.ts";
import type { DataLoop, Ways } from "./data_loop.ts";
import { type Pointer, ptr, yieldProcessor } from "./libc.ts";
import { poll, POLLIN, POLLOUT, read } from "./libc_linux.ts";
import type { LinuxPacketDevice } from "./tun_linux.ts";
import type { PollDatagramSocket } from "./udp_poll.ts";

/** Longest stay away from the event loop. */
const YIELD_MS = 50;
/** What one turn receives at most: so many bytes, in so many calls. */
const RECEIVED_BYTES_PER_TURN = 512 * 1024;
const RECEIVES_PER_TURN = 64;
/**
 * What one turn reads of the TUN at most: so many super-packets, which then are together in the queue of the engine's
 * threads, or batches of so many small packets in all, each of which costs a system call.
 */
const READS_PER_TURN = 16;
const PACKETS_PER_TURN = 512;
/** A turn with so few bytes has moved a lone packet, as a ping does. */
const LONE_BYTES = 4_096;

const POLLFD_BYTES = 8;
const POLLFDS = 3;
const TUN = 0;
const UDP = 1;
const WAKE = 2;

/** Drives the packet path by blocking calls. */
export class PollDataLoop implements DataLoop {
  staysAwake = false;
  readonly #tun: LinuxPacketDevice;
  readonly #udp: PollDatagramSocket;
  readonly #wakeFd: number;
  /** Three struct pollfd, and 8 bytes for the eventfd's counter. */
  readonly #fds = new Int32Array((POLLFDS * POLLFD_BYTES + 8) / 4);
  readonly #fdsAddress: number;
  readonly #busyWait = new BusyWait();
  #ways: Ways | null = null;
  /** Whether it is worth a look: not when poll(2) has just said that there is nothing. */
  #socketHas = true;
  #tunHas = true;
  #wasAsleep = false;
  #scheduled = false;
  #stopped = false;

  /** @param wakeFd eventfd that counts up when a message was posted; -1 for none */
  constructor(tun: LinuxPacketDevice, udp: PollDatagramSocket, wakeFd: number) {
    this.#tun = tun;
    this.#udp = udp;
    this.#wakeFd = wakeFd;
    this.#fdsAddress = ptr(this.#fds);
    this.#fds[TUN * 2] = tun.fd;
    this.#fds[UDP * 2] = udp.fd;
    this.#fds[WAKE * 2] = wakeFd;
    this.#fds[WAKE * 2 + 1] = POLLIN;
  }

  start(ways: Ways, _failed: (error: unknown) => void): void {
    this.#ways = ways;
    this.#udp.onReceive((bytes, end, from) => ways.inbound.receive(bytes, end, from));
    this.#udp.onRecord((header, offset, sealed, start, from) =>
      ways.inbound.receiveRecord(header, offset, sealed, start, from),
    );
    ways.engine.onProgress(() => this.#schedule());
    this.#schedule();
  }

  stop(): void {
    this.#stopped = true;
    this.#tun.stop();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#scheduledTurn);
  }

  readonly #scheduledTurn = (): void => {
    this.#scheduled = false;
    this.#turn();
  };

  #turn(): void {
    const { engine, inbound, outbound } = this.#ways!;
    const untilMs = performance.now() + YIELD_MS;
    while (!this.#stopped) {
      const wasAsleep = this.#wasAsleep;
      const bytes = this.#takeIn();
      if (engine.inFlight > 0) return;
      const nowMs = performance.now();
      // packets of rate-limited sessions, which a timer would let go too late
      inbound.gate.releaseDue(nowMs);
      outbound.gate.releaseDue(nowMs);
      if (nowMs >= untilMs) return this.#schedule();
      const isDone = bytes === 0 || (wasAsleep && bytes <= LONE_BYTES);
      const isAwake = isDone && this.#busyWait.goesOn(nowMs);
      if (isAwake) yieldProcessor();
      if (this.#socketHas || this.#tunHas) continue;
      if (this.#look(isAwake || bytes > 0 ? nowMs : untilMs, nowMs)) return this.#schedule();
    }
  }

  /** Takes in what the socket has, then what the TUN has, whether or not poll(2) has told of it. */
  step(): void {
    this.#socketHas = true;
    this.#tunHas = true;
    this.#takeIn();
  }

  /**
   * Takes in what the socket and the TUN have, as far as is known. What moves much is asked again for more at once; what
   * moves lone packets asks poll(2) first, one system call instead of two that find nothing.
   *
   * @returns bytes that were there, about
   */
  #takeIn(): number {
    const { engine } = this.#ways!;
    const received = this.#socketHas ? this.#takeDatagrams() : 0;
    // what was received, and is not with other threads still, may be answered by this machine at once
    const isWritten = received > 0 && engine.inFlight === 0;
    const read = isWritten || this.#tunHas ? this.#takePackets() : 0;
    const bytes = received + read;
    const isMuch = bytes > LONE_BYTES || engine.inFlight > 1;
    this.#socketHas = isMuch;
    this.#tunHas = isMuch;
    this.#wasAsleep = false;
    if (received > 0) this.#busyWait.end();
    // for the answer to a lone packet an engine with threads of its own has its own wait
    if (read > 0 && (engine.name === "sync" || bytes > LONE_BYTES)) this.#busyWait.begin(performance.now());
    return bytes;
  }

  #takeDatagrams(): number {
    let bytes = 0;
    for (let i = 0; i < RECEIVES_PER_TURN && bytes < RECEIVED_BYTES_PER_TURN; i++) {
      const received = this.#udp.receive();
      bytes += received;
      if (received > 0 && !this.#udp.isDrained) continue;
      this.#ways!.inbound.receivedAll();
      break;
    }
    return bytes;
  }

  #takePackets(): number {
    const { outbound } = this.#ways!;
    let bytes = 0;
    let packets = 0;
    for (let reads = 0; reads < READS_PER_TURN && packets < PACKETS_PER_TURN; reads++) {
      const read = outbound.hasRoom ? this.#tun.readAvailable() : 0;
      if (read === 0) break;
      bytes += read;
      packets += this.#tun.packetsRead;
      outbound.packets(this.#tun.readBuffer, 0, read);
      if (this.#tun.isDrained) break;
    }
    return bytes;
  }

  /** Waits until there is something to do, or `untilMs`, which may be now: a look. @returns whether the event loop is wanted */
  #look(untilMs: number, nowMs: number): boolean {
    const { inbound, outbound } = this.#ways!;
    this.#fds[TUN * 2 + 1] = outbound.hasRoom ? POLLIN : 0;
    this.#fds[UDP * 2 + 1] = outbound.isBlocked ? POLLIN | POLLOUT : POLLIN;
    const wakeMs = Math.min(untilMs, inbound.gate.dueMs, outbound.gate.dueMs);
    const sleeps = untilMs > nowMs && !this.staysAwake;
    const timeoutMs = sleeps ? Math.max(1, Math.ceil(wakeMs - nowMs)) : 0;
    if (poll(this.#fdsAddress as Pointer, POLLFDS, timeoutMs) <= 0)
      return this.staysAwake || (sleeps && wakeMs === untilMs);
    this.#wasAsleep = sleeps;
    this.#tunHas = this.#fds[TUN * 2 + 1]! >>> 16 !== 0;
    this.#socketHas = this.#fds[UDP * 2 + 1]! >>> 16 !== 0;
    if (outbound.isBlocked && ((this.#fds[UDP * 2 + 1]! >>> 16) & POLLOUT) !== 0) this.#udp.drain();
    if (this.#fds[WAKE * 2 + 1]! >>> 16 === 0) return this.staysAwake;
    read(this.#wakeFd, (this.#fdsAddress + POLLFDS * POLLFD_BYTES) as Pointer, 8);
    return true;
  }
}
