/** The Worker that the data plane runs in, so that control work never delays a packet. An entry point of the build. */

import { systemClock } from "./clock.ts";
import { DataPlane } from "./data_plane.ts";
import type { FromDataPlane, StartData, ToDataPlane } from "./data_plane_message.ts";
import type { DataLoop } from "./data_loop.ts";
import { EventDataLoop } from "./data_loop_events.ts";
import { PollDataLoop } from "./data_loop_poll.ts";
import type { Engine } from "./engine.ts";
import { openEngine } from "./engines.ts";
import { takeGcBallast } from "./gc_ballast.ts";
import { yieldProcessor } from "./libc.ts";
import { SelfTest } from "./self_test.ts";
import { LinuxPacketDevice } from "./tun_linux.ts";
import { type BunDatagramSocket, openUdp } from "./udp_bun.ts";

declare const self: Worker;

/** So long the warm-up goes on before anything is carried, unless a session waits: others on this machine start, too. */
const FIRST_WARM_UP_MS = 200;
/** A session's first moments belong to its routes and names, which others on this machine are setting up. */
const SETTLE_MS = 500;
/** So many packets of its own get a tunnel compiled as well as the self-test's. */
const PACKETS_THAT_WARM_UP = 200;

let dataPlane: DataPlane | null = null;
/** Messages that came before the packet path was ready. */
const waiting: Exclude<ToDataPlane, StartData>[] = [];

function emit(message: FromDataPlane): void {
  if (message.kind === "tunnel-out") self.postMessage(message, [message.frames.buffer]);
  else self.postMessage(message);
}

async function start(message: StartData): Promise<void> {
  let test: SelfTest | null = null;
  takeGcBallast();
  try {
    const engine = openEngine(message.engine, yieldProcessor);
    const udp = await openUdp(message.bind);
    const { plane, loop } = await assemble(message, udp, engine);
    plane.ready();
    // Beside the log-in, which takes longer, mostly. Sessions wait for it: "connected" must not be said, on the word of
    // the TLS stream, before packets are read.
    test = await SelfTest.open(engine.name, message.tunOffload);
    await test.prove();
    const untilMs = systemClock.monotonicMs() + FIRST_WARM_UP_MS;
    await test.warmUp(() => waiting.length === 0 && systemClock.monotonicMs() < untilMs);
    plane.run();
    for (const earlier of waiting.splice(0)) plane.handle(earlier);
    dataPlane = plane;
    await warmUpBeside(test, plane, loop);
  } catch (error) {
    const reason = error instanceof Error ? error : new Error(String(error));
    emit({ kind: "failed", errorName: reason.name, message: reason.message });
  } finally {
    test?.close();
  }
}

/** Whatever is left of the warm-up: it lets real packets pass between its own, and so many end it. */
async function warmUpBeside(test: SelfTest, plane: DataPlane, loop: DataLoop): Promise<void> {
  await Bun.sleep(SETTLE_MS);
  loop.staysAwake = true;
  await test.warmUp(() => plane.packets < PACKETS_THAT_WARM_UP);
  loop.staysAwake = false;
}

/** On Linux the loop of poll(2), elsewhere Bun's event loop. */
async function assemble(
  message: StartData,
  udp: BunDatagramSocket,
  engine: Engine,
): Promise<{ readonly plane: DataPlane; readonly loop: DataLoop }> {
  const { tunFd, tunOffload } = message;
  if (process.platform === "linux") {
    const tun = new LinuxPacketDevice(tunFd, tunOffload);
    const socket = udp.toPoll();
    const loop = new PollDataLoop(tun, socket, message.wakeFd);
    return { plane: new DataPlane(message, tun, socket, loop, engine, systemClock, emit), loop };
  }
  const { MacosPacketDevice } = await import("./tun_macos.ts");
  const tun = new MacosPacketDevice(tunFd);
  const loop = new EventDataLoop(tun, udp);
  return { plane: new DataPlane(message, tun, udp, loop, engine, systemClock, emit), loop };
}

self.onmessage = (event: MessageEvent<ToDataPlane>) => {
  const message = event.data;
  if (message.kind === "start") void start(message);
  else if (dataPlane === null) waiting.push(message);
  else dataPlane.handle(message);
};
