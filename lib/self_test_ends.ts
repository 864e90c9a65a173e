/** The two ends that the self-test exchanges packets between: devices, sockets, and loops that never sleep. */

import type { HostPort } from "./address.ts";
import type { DataLoop } from "./data_loop.ts";
import { EventDataLoop } from "./data_loop_events.ts";
import { PollDataLoop } from "./data_loop_poll.ts";
import { libc, type Pointer, ptr } from "./libc.ts";
import { read } from "./libc_linux.ts";
import { HEADER_BYTES } from "./limits.ts";
import { openSocketPair } from "./socket_pair_linux.ts";
import type { PacketDevice } from "./tun.ts";
import { LinuxPacketDevice } from "./tun_linux.ts";
import { MemoryPacketDevice } from "./tun_memory.ts";
import type { DatagramSocket } from "./udp.ts";
import { openUdp } from "./udp_bun.ts";
import { MemoryNetwork } from "./udp_memory.ts";
import type { PollDatagramSocket } from "./udp_poll.ts";

/** One end. */
export interface TestEnd {
  readonly tun: PacketDevice;
  readonly udp: DatagramSocket;
  readonly loop: DataLoop;
  readonly address: HostPort;
  /** Makes a packet readable. */
  inject(packet: Uint8Array<ArrayBuffer>): void;
  /** Moves what waits at once, where the loop can; its own turns come as well. */
  step(): void;
  /** A packet that was written, if one was. */
  take(): Uint8Array | null;
  close(): void;
}

/** Room for one packet of the test. */
const PACKET_BYTES = 2_048;

/** Two ends in memory. */
export function openMemoryEnds(offload: boolean): readonly TestEnd[] {
  const network = new MemoryNetwork();
  return ["a", "b"].map((host) => {
    const tun = new MemoryPacketDevice(offload);
    const udp = network.open(host, 1);
    return {
      tun,
      udp,
      loop: new EventDataLoop(tun, udp),
      address: { host, port: 1 },
      inject: (packet) => tun.inject(packet.slice()),
      step: () => undefined,
      take: () => tun.written.shift() ?? null,
      close: () => undefined,
    };
  });
}

/** Two ends with real descriptors; null where there are none such, or no loopback. */
export async function openPollEnds(offload: boolean): Promise<readonly TestEnd[] | null> {
  if (process.platform !== "linux") return null;
  const ends: TestEnd[] = [];
  for (let i = 0; i < 2; i++) {
    const end = await openPollEnd(offload);
    if (end === null) {
      for (const opened of ends) {
        opened.udp.close();
        opened.close();
      }
      return null;
    }
    ends.push(end);
  }
  return ends;
}

async function openPollEnd(offload: boolean): Promise<TestEnd | null> {
  const bun = await openUdp({ host: "127.0.0.1", port: 0 }).catch(() => null);
  if (bun === null) return null;
  const udp = bun.toPoll();
  const pair = openSocketPair();
  if (pair === null || !hearsItself(udp)) {
    udp.close();
    pair?.close();
    return null;
  }
  const tun = new LinuxPacketDevice(pair.a, offload);
  const loop = new PollDataLoop(tun, udp, -1);
  const into = new Uint8Array(PACKET_BYTES);
  const address: Pointer = ptr(into);
  return {
    tun,
    udp,
    loop,
    step: () => void loop.step(),
    address: { host: "127.0.0.1", port: udp.port },
    inject: (packet) => void libc.write(pair.b, ptr(packet), packet.length),
    take: () => {
      const length = read(pair.b, address, PACKET_BYTES);
      return length > 0 ? into.slice(0, length) : null;
    },
    close: () => pair.close(),
  };
}

/** Whether loopback is up: a datagram to ourselves comes back at once. */
function hearsItself(udp: PollDatagramSocket): boolean {
  const to = { host: "127.0.0.1", port: udp.port };
  const sent = udp.sendRecord(new Uint8Array(HEADER_BYTES), new Uint8Array(1), null, null, 1, to);
  return sent === "sent" && udp.receive() > 0;
}
