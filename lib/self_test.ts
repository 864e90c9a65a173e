/**
 * Proves the packet path before the first packet comes, and gets it compiled.
 *
 * Two data planes exchange packets under a throw-away key: if one packet does not arrive as it was sent, this machine's
 * cryptography or this build is broken, and the tunnel must not start. The same packets show the just-in-time compiler the
 * real code; otherwise the first few hundred packets of a tunnel would run in the interpreter. So on Linux the planes have
 * the real loop, real sockets on loopback, and socket pairs for TUNs; elsewhere, or without loopback, all is in memory.
 */

import { equalBytes } from "./bytes.ts";
import { systemClock } from "./clock.ts";
import { DataPlane } from "./data_plane.ts";
import type { EngineName, StartData } from "./data_plane_message.ts";
import { openEngine } from "./engines.ts";
import { yieldProcessor } from "./libc.ts";
import { SystemError } from "./errors.ts";
import { DEFAULT_MTU_BYTES, RECORD_OVERHEAD_BYTES, VNET_HEADER_BYTES } from "./limits.ts";
import { openMemoryEnds, openPollEnds, type TestEnd } from "./self_test_ends.ts";

const SESSION_ID = 1;
/** Packets each way that prove the path. */
const PROVING_ROUNDS = 20;
/** A packet that took this long and this many turns of the event loop is lost: a machine may sleep in between. */
const LOST_AFTER_MS = 1_000;
const LOST_AFTER_TURNS = 1_000;
/** One packet may be lost on a sound machine, by a firewall that is being set up, say; not as many as this. */
const MAX_LOSSES = 3;

/** Packets each way for the compiler: with less, the first hundreds of a tunnel's packets take a fifth longer. */
const WARM_UP_ROUNDS = 1_000;
/** On a busy machine, where each hand-over to the crypto threads takes a turn of everybody else's, there are fewer. */
const WARM_UP_MS = 1_500;
/** In the warm-up so many packets are on their way at once, and now and then one by itself: a ping's way is its own. */
const WINDOW = 16;
const LONE_EVERY = 16;

/** The test of one process: two data planes, which it holds until {@link close}. */
export class SelfTest {
  readonly #ends: readonly TestEnd[];
  readonly #planes: readonly DataPlane[];
  readonly #exchange: Exchange;
  readonly #startedMs = systemClock.monotonicMs();
  #rounds = 0;

  private constructor(
    ends: readonly TestEnd[],
    planes: readonly DataPlane[],
    packet: Uint8Array<ArrayBuffer>,
  ) {
    this.#ends = ends;
    this.#planes = planes;
    this.#exchange = new Exchange(ends, packet);
  }

  static async open(engineName: EngineName, offload: boolean): Promise<SelfTest> {
    const ends = (await openPollEnds(offload)) ?? openMemoryEnds(offload);
    const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, [
      "encrypt",
      "decrypt",
    ]);
    const planes = ends.map((end, i) => openPlane(end, ends[1 - i]!, i, key, engineName, offload));
    return new SelfTest(ends, planes, testPacket(offload));
  }

  /**
   * Exchanges a few packets, one each way at a time, and all must arrive.
   *
   * @throws {SystemError} when a packet did not arrive as it was sent
   */
  async prove(): Promise<void> {
    let losses = 0;
    for (let rounds = 0; rounds < PROVING_ROUNDS;) {
      this.#exchange.send();
      if (await this.#exchange.settle(0)) rounds++;
      else if (++losses === MAX_LOSSES) throw failed("packets were lost");
    }
  }

  /**
   * Exchanges packets for the compiler, until it has seen enough or that took too long; what an earlier call did counts.
   *
   * @param goesOn asked before each round whether to go on
   * @throws {SystemError} when a packet was changed; a lost one only ends it
   */
  async warmUp(goesOn: () => boolean): Promise<void> {
    const untilMs = this.#startedMs + WARM_UP_MS;
    while (this.#rounds < WARM_UP_ROUNDS && systemClock.monotonicMs() < untilMs && goesOn()) {
      const isLone = this.#rounds++ % LONE_EVERY === 0;
      this.#exchange.send();
      if (!isLone) this.#exchange.step();
      if (!(await this.#exchange.settle(isLone ? 0 : WINDOW))) break;
    }
    await this.#exchange.settle(0);
  }

  close(): void {
    for (const plane of this.#planes) plane.handle({ kind: "stop" });
    for (const end of this.#ends) end.close();
  }
}

/** The packets that are on their way between the two ends. */
class Exchange {
  readonly #ends: readonly TestEnd[];
  readonly #packet: Uint8Array<ArrayBuffer>;
  #onTheWay = 0;

  constructor(ends: readonly TestEnd[], packet: Uint8Array<ArrayBuffer>) {
    this.#ends = ends;
    this.#packet = packet;
  }

  /** Sends a packet each way. */
  send(): void {
    for (const end of this.#ends) end.inject(this.#packet);
    this.#onTheWay += this.#ends.length;
  }

  /** Moves packets without a turn of the event loop, so that the next ones do not join them. */
  step(): void {
    for (const end of this.#ends) end.step();
  }

  /**
   * Waits until no more than `most` packets are on their way.
   *
   * @returns false when some were lost, which are then no longer waited for
   * @throws {SystemError} when one was changed
   */
  async settle(most: number): Promise<boolean> {
    const startedMs = systemClock.monotonicMs();
    for (let turns = 0; ; turns++) {
      this.#take();
      if (this.#onTheWay <= most) return true;
      if (turns > LOST_AFTER_TURNS && systemClock.monotonicMs() - startedMs > LOST_AFTER_MS) break;
      await new Promise(setImmediate);
    }
    this.#onTheWay = 0;
    return false;
  }

  #take(): void {
    for (const end of this.#ends) {
      for (let packet = end.take(); packet !== null; packet = end.take()) {
        if (!equalBytes(packet, this.#packet)) throw failed("a packet was changed");
        // one that was given up for lost may come after all
        this.#onTheWay = Math.max(0, this.#onTheWay - 1);
      }
    }
  }
}

function failed(what: string): SystemError {
  return new SystemError(`The packet path failed its self-test: ${what}`, "self-test", 0);
}

function openPlane(
  end: TestEnd,
  peer: TestEnd,
  index: number,
  key: CryptoKey,
  engineName: EngineName,
  offload: boolean,
): DataPlane {
  const start: StartData = {
    kind: "start",
    role: "client",
    tunFd: -1,
    tunOffload: offload,
    bind: end.address,
    maxDatagramBytes: DEFAULT_MTU_BYTES + RECORD_OVERHEAD_BYTES,
    mtuBytes: DEFAULT_MTU_BYTES,
    engine: engineName,
    wakeFd: -1,
    keepaliveMs: 10_000,
  };
  end.loop.staysAwake = true;
  const plane = new DataPlane(
    start,
    end.tun,
    end.udp,
    end.loop,
    openEngine(engineName, yieldProcessor),
    systemClock,
    () => undefined,
  );
  plane.run();
  plane.handle({
    kind: "add-session",
    id: SESSION_ID,
    allowedIps: ["0.0.0.0/0"],
    endpoint: peer.address,
    peerOffload: offload,
  });
  // one key for both directions is fine for a key that only ever seals the test's packets: the salts differ
  const [sendSalt, receiveSalt] = [Uint8Array.of(0, 0, 0, index), Uint8Array.of(0, 0, 0, 1 - index)];
  const keys = { epoch: 0, sendKey: key, receiveKey: key, sendSalt, receiveSalt };
  plane.handle({ kind: "set-epoch", id: SESSION_ID, keys, sendNow: true });
  return plane;
}

/** An ICMP echo request from 192.0.2.1 to 192.0.2.2 (RFC 5737), 84 bytes as ping sends it. */
function testPacket(offload: boolean): Uint8Array<ArrayBuffer> {
  const vnet = offload ? VNET_HEADER_BYTES : 0;
  const packet = new Uint8Array(vnet + 84);
  packet.set([0x45, 0, 0, 84, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 8], vnet);
  return packet;
}
