/**
 * Proves the packet path before the first packet comes, and gets it compiled.
 *
 * Two data planes in memory exchange packets under a throw-away key: if one packet does not arrive as it was sent, this
 * machine's cryptography or this build is broken, and the tunnel must not start. The same packets show the just-in-time
 * compiler the real code; otherwise the first few hundred packets of a tunnel would run in the interpreter.
 */

import { equalBytes } from "./bytes.ts";
import { systemClock } from "./clock.ts";
import { EventDataLoop } from "./data_loop_events.ts";
import { DataPlane } from "./data_plane.ts";
import type { EngineName, StartData } from "./data_plane_message.ts";
import { openEngine } from "./engines.ts";
import { SystemError } from "./errors.ts";
import { DEFAULT_MTU_BYTES, RECORD_OVERHEAD_BYTES, VNET_HEADER_BYTES } from "./limits.ts";
import { MemoryPacketDevice } from "./tun_memory.ts";
import { MemoryNetwork } from "./udp_memory.ts";

const SESSION_ID = 1;
const PORT = 1;
/** Packets each way: enough for the compiler to optimise the path, about 0.1 s of one core. */
const ROUNDS = 1_000;
/** A packet is lost when it took this long and this many turns of the event loop: a machine may sleep in between. */
const LOST_AFTER_MS = 5_000;
const LOST_AFTER_TURNS = 100_000;

interface End {
  readonly tun: MemoryPacketDevice;
  readonly plane: DataPlane;
}

/**
 * Runs the test, in turns that leave the event loop to others.
 *
 * @throws {SystemError} when a packet did not arrive as it was sent
 */
export async function selfTest(engineName: EngineName, offload: boolean): Promise<void> {
  const network = new MemoryNetwork();
  const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt", "decrypt"]);
  const a = openEnd(network, "a", "b", key as CryptoKey, engineName, offload);
  const b = openEnd(network, "b", "a", key as CryptoKey, engineName, offload);
  const packet = testPacket(offload);
  for (let i = 0; i < ROUNDS; i++) {
    for (const end of [a, b]) end.tun.inject(packet.slice());
    await arrival(a, b);
    for (const end of [a, b]) {
      if (!equalBytes(end.tun.written.pop()!, packet)) throw failed("a packet was changed");
    }
  }
  for (const end of [a, b]) end.plane.handle({ kind: "stop" });
}

/** Waits until a packet came out at both ends. */
async function arrival(a: End, b: End): Promise<void> {
  const startedMs = systemClock.monotonicMs();
  for (let turns = 0; a.tun.written.length === 0 || b.tun.written.length === 0; turns++) {
    const late = systemClock.monotonicMs() - startedMs > LOST_AFTER_MS;
    if (late && turns > LOST_AFTER_TURNS) throw failed("a packet was lost");
    await new Promise(setImmediate);
  }
}

function failed(what: string): SystemError {
  return new SystemError(`The packet path failed its self-test: ${what}`, "self-test", 0);
}

function openEnd(
  network: MemoryNetwork,
  host: string,
  peer: string,
  key: CryptoKey,
  engineName: EngineName,
  offload: boolean,
): End {
  const tun = new MemoryPacketDevice(offload);
  const start: StartData = {
    kind: "start",
    role: "client",
    tunFd: -1,
    tunOffload: offload,
    bind: { host, port: PORT },
    maxDatagramBytes: DEFAULT_MTU_BYTES + RECORD_OVERHEAD_BYTES,
    engine: engineName,
    wakeFd: -1,
    keepaliveMs: 10_000,
  };
  const udp = network.open(host, PORT);
  const loop = new EventDataLoop(tun, udp);
  const plane = new DataPlane(start, tun, udp, loop, openEngine(engineName), systemClock, () => undefined);
  plane.run();
  const endpoint = { host: peer, port: PORT };
  plane.handle({
    kind: "add-session",
    id: SESSION_ID,
    allowedIps: ["0.0.0.0/0"],
    endpoint,
    peerOffload: offload,
  });
  // one key for both directions is fine for a key that only ever seals the test's packets: the salts differ
  const [ownSalt, peerSalt] = [
    Uint8Array.of(0, 0, 0, host.charCodeAt(0)),
    Uint8Array.of(0, 0, 0, peer.charCodeAt(0)),
  ];
  const keys = { epoch: 0, sendKey: key, receiveKey: key, sendSalt: ownSalt, receiveSalt: peerSalt };
  plane.handle({ kind: "set-epoch", id: SESSION_ID, keys, sendNow: true });
  return { tun, plane };
}

/** An ICMP echo request from 192.0.2.1 to 192.0.2.2 (RFC 5737), 84 bytes as ping sends it. */
function testPacket(offload: boolean): Uint8Array {
  const vnet = offload ? VNET_HEADER_BYTES : 0;
  const packet = new Uint8Array(vnet + 84);
  packet.set([0x45, 0, 0, 84, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 8], vnet);
  return packet;
}
