/** The Worker that the data plane runs in, so that control work never delays a packet. An entry point of the build. */

import { systemClock } from "./clock.ts";
import { DataPlane } from "./data_plane.ts";
import type { FromDataPlane, StartData, ToDataPlane } from "./data_plane_message.ts";
import { EventDataLoop } from "./data_loop_events.ts";
import { PollDataLoop } from "./data_loop_poll.ts";
import type { Engine } from "./engine.ts";
import { openEngine } from "./engines.ts";
import { yieldProcessor } from "./libc.ts";
import { selfTest } from "./self_test.ts";
import { LinuxPacketDevice } from "./tun_linux.ts";
import { type BunDatagramSocket, openUdp } from "./udp_bun.ts";

declare const self: Worker;

let dataPlane: DataPlane | null = null;
/** Messages that came before the packet path was ready. */
const waiting: Exclude<ToDataPlane, StartData>[] = [];

function emit(message: FromDataPlane): void {
  if (message.kind === "tunnel-out") self.postMessage(message, [message.frames.buffer]);
  else self.postMessage(message);
}

async function start(message: StartData): Promise<void> {
  try {
    const engine = openEngine(message.engine, yieldProcessor);
    const udp = await openUdp(message.bind);
    const started = await assemble(message, udp, engine);
    started.ready();
    // Beside the log-in, which takes longer, mostly. Sessions wait for it: "connected" must not be said, on the word of
    // the TLS stream, before packets are read.
    await selfTest(engine.name, message.tunOffload);
    started.run();
    for (const earlier of waiting.splice(0)) started.handle(earlier);
    dataPlane = started;
  } catch (error) {
    const reason = error instanceof Error ? error : new Error(String(error));
    emit({ kind: "failed", errorName: reason.name, message: reason.message });
  }
}

/** On Linux the loop of poll(2), elsewhere Bun's event loop. */
async function assemble(message: StartData, udp: BunDatagramSocket, engine: Engine): Promise<DataPlane> {
  const { tunFd, tunOffload } = message;
  if (process.platform === "linux") {
    const tun = new LinuxPacketDevice(tunFd, tunOffload);
    const socket = udp.toPoll();
    const loop = new PollDataLoop(tun, socket, message.wakeFd);
    return new DataPlane(message, tun, socket, loop, engine, systemClock, emit);
  }
  const { MacosPacketDevice } = await import("./tun_macos.ts");
  const tun = new MacosPacketDevice(tunFd);
  return new DataPlane(message, tun, udp, new EventDataLoop(tun, udp), engine, systemClock, emit);
}

self.onmessage = (event: MessageEvent<ToDataPlane>) => {
  const message = event.data;
  if (message.kind === "start") void start(message);
  else if (dataPlane === null) waiting.push(message);
  else dataPlane.handle(message);
};
