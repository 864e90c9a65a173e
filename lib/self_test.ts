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
import type { DataLoop } from "./data_loop.ts";
import type { EngineName, StartData } from "./data_plane_message.ts";
import { openEngine } from "./engines.ts";
import { yieldProcessor } from "./libc.ts";
import { SystemError } from "./errors.ts";
import { DEFAULT_MTU_BYTES, RECORD_OVERHEAD_BYTES, VNET_HEADER_BYTES } from "./limits.ts";
import { openMemoryEnds, openPollEnds, type TestEnd } from "./self_test_ends.ts";

const SESSION_ID = 1;
/** Packets each way: enough for the compiler to optimise the path. */
const ROUNDS: Readonly<Record<EngineName, number>> = { web: 500, sync: 700 };
/** So many prove that it works. */
const PROVING_ROUNDS = 20;
/**
 * The rest is for the compiler, and not worth waiting for on a busy machine, where each hand-over to the crypto threads
 * takes a turn of everybody else's: at a load of 16 on two cores all rounds took 5 s, in which no packet got through.
 */
const WARM_UP_MS = 200;
/** A packet is lost when it took this long and this many turns of the event loop: a machine may sleep in between. */
const LOST_AFTER_MS = 5_000;
const LOST_AFTER_TURNS = 100_000;

/**
 * Runs the test, in turns that leave the event loop to others.
 *
 * @throws {SystemError} when a packet did not arrive as it was sent
 */
export async function selfTest(engineName: EngineName, offload: boolean): Promise<void> {
  const ends = (await openPollEnds(offload)) ?? openMemoryEnds(offload);
  const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt", "decrypt"]);
  const planes = ends.map((end, i) => openPlane(end, ends[1 - i]!, i, key as CryptoKey, engineName, offload));
  try {
    const packet = testPacket(offload);
    const warmUntilMs = systemClock.monotonicMs() + WARM_UP_MS;
    for (let i = 0; i < ROUNDS[engineName]; i++) {
      if (i >= PROVING_ROUNDS && systemClock.monotonicMs() > warmUntilMs) break;
      for (const end of ends) end.inject(packet);
      for (const arrived of await arrivals(ends)) {
        if (!equalBytes(arrived, packet)) throw failed("a packet was changed");
      }
    }
  } finally {
    for (const plane of planes) plane.handle({ kind: "stop" });
    for (const end of ends) end.close();
  }
}

/** Waits until a packet came out at each end. */
async function arrivals(ends: readonly TestEnd[]): Promise<Uint8Array[]> {
  const startedMs = systemClock.monotonicMs();
  const arrived: (Uint8Array | null)[] = ends.map(() => null);
  for (let turns = 0; ; turns++) {
    for (const [i, end] of ends.entries()) {
      end.step();
      arrived[i] ??= end.take();
    }
    if (!arrived.includes(null)) return arrived as Uint8Array[];
    const late = systemClock.monotonicMs() - startedMs > LOST_AFTER_MS;
    if (late && turns > LOST_AFTER_TURNS) throw failed("a packet was lost");
    // the first steps of a synchronous engine need no turn
    if (turns > 1) await new Promise(setImmediate);
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
  const loop: DataLoop = end.loop;
  const plane = new DataPlane(
    start,
    end.tun,
    end.udp,
    loop,
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
