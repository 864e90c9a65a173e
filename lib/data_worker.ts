/** The Worker that the data plane runs in, so that control work never delays a packet. An entry point of the build. */

import { systemClock } from "./clock.ts";
import { DataPlane } from "./data_plane.ts";
import type { FromDataPlane, StartData, ToDataPlane } from "./data_plane_message.ts";
import { selfTest } from "./self_test.ts";
import type { PacketDevice } from "./tun.ts";
import { LinuxPacketDevice } from "./tun_linux.ts";
import { openUdp } from "./udp_bun.ts";

declare const self: Worker;

let dataPlane: DataPlane | null = null;
/** Messages that came while the socket was being bound. */
const waiting: Exclude<ToDataPlane, StartData>[] = [];

function emit(message: FromDataPlane): void {
  self.postMessage(message);
}

async function openPacketDevice({ tunFd, tunOffload }: StartData): Promise<PacketDevice> {
  if (process.platform !== "darwin") return new LinuxPacketDevice(tunFd, tunOffload);
  const { MacosPacketDevice } = await import("./tun_macos.ts");
  return new MacosPacketDevice(tunFd);
}

async function start(message: StartData): Promise<void> {
  try {
    const udp = await openUdp(message.bind);
    const tun = await openPacketDevice(message);
    const started = new DataPlane(message, tun, udp, systemClock, emit);
    started.run();
    for (const earlier of waiting.splice(0)) started.handle(earlier);
    dataPlane = started;
    // beside the log-in, which takes longer
    await selfTest(message.tunOffload);
  } catch (error) {
    const reason = error instanceof Error ? error : new Error(String(error));
    emit({ kind: "failed", errorName: reason.name, message: reason.message });
  }
}

self.onmessage = (event: MessageEvent<ToDataPlane>) => {
  const message = event.data;
  if (message.kind === "start") void start(message);
  else if (dataPlane === null) waiting.push(message);
  else dataPlane.handle(message);
};
