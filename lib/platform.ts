/**
 * The machine side of either program: its files, its TUN device, its host settings, its data plane and its end.
 *
 * Together with `platform_server.ts` and `platform_client.ts` the one place that knows both the state machines and the
 * machine. What is opened is closed in reverse order, whatever happens in between.
 */

import { messageOf } from "./caught.ts";
import type { ClientConfig } from "./config_client.ts";
import type { ServerConfig } from "./config_server.ts";
import { type AdminHandlers, type ControlSocket, listenControlSocket } from "./control_socket.ts";
import { KeptBackThreads } from "./crypto_threads.ts";
import type { StartData } from "./data_plane_message.ts";
import { type WorkerDataPlane, startWorkerDataPlane } from "./data_plane_worker.ts";
import { PrivilegeError } from "./errors.ts";
import { type HostSetup, openHostSetup } from "./host_setup.ts";
import { type Instance, openInstance } from "./instance.ts";
import { gsoMaxBytesFor, RECORD_OVERHEAD_BYTES } from "./limits.ts";
import type { Log } from "./log.ts";
import { handleSignals } from "./signals.ts";
import type { TunDevice } from "./tun.ts";

/** What either program has opened on this machine. */
export interface Machine {
  readonly instance: Instance;
  readonly tun: TunDevice;
  readonly setup: HostSetup;
  /** Largest super-packet for a host plan; null where the device has no offload. */
  readonly gsoMaxBytes: number | null;
  /** Starts the data plane; it is stopped with the rest. */
  startDataPlane(options: Pick<StartData, "bind" | "transport">): WorkerDataPlane;
  /** Opens the control socket; it is the last thing to close. */
  listen(handlers: Omit<AdminHandlers, "stop">): Promise<void>;
  /** Has `close` called in its turn, before all that was opened earlier. */
  defer(close: () => Promise<void> | void): void;
  /** Resolves to the reason when a signal or a command asks for the end. */
  readonly ending: Promise<string>;
}

/** Opens the machine, runs `use` with it, and puts everything back. */
export async function withMachine(
  role: Instance["role"],
  config: ServerConfig | ClientConfig,
  log: Log,
  onHangup: (() => void) | undefined,
  use: (machine: Machine) => Promise<void>,
): Promise<void> {
  const instance = openInstance(role, config.tun, config.stateDir);
  await dropPrivileges(role, config, instance.stateDir);
  await using stack = new AsyncDisposableStack();
  const ending = Promise.withResolvers<string>();
  const restored = Promise.withResolvers<void>();
  let socket: ControlSocket | null = null;
  // Closed last, so that `down` hears from it when all is put back.
  stack.defer(() => socket?.close());
  stack.defer(() => restored.resolve());
  const signals = handleSignals(ending.resolve, onHangup);
  stack.defer(() => signals.close());
  const keepKillSwitch = "killSwitch" in config && config.killSwitch;
  const setup = await openHostSetup(instance, log, { keepKillSwitch });
  let failed = true;
  stack.defer(() => setup.restore(failed));
  const tun = await openTun(config.tun);
  stack.defer(() => tun.close());
  if (process.platform === "linux" && !tun.offload) {
    log.warn(
      `"${tun.name}" has no offloads on this kernel: every packet costs a system call, so expect a third of the speed`,
    );
  }
  const stop = async (): Promise<string> => {
    ending.resolve("stopped by command");
    await restored.promise;
    return `Stopped, and put back what "${instance.tun}" had changed`;
  };
  await use({
    instance,
    tun,
    setup,
    gsoMaxBytes: tun.offload ? gsoMaxBytesFor(config.mtuBytes + RECORD_OVERHEAD_BYTES) : null,
    startDataPlane: (options) => {
      const plane = startWorkerDataPlane({ ...startMessage(role, config, tun), ...options });
      stack.defer(() => plane.stop());
      if (config.engine === "web" && process.platform === "linux") stack.defer(keepThreadsBack(log));
      return plane;
    },
    listen: async (handlers) => {
      socket = await listenControlSocket(instance, { ...handlers, stop }, log);
    },
    defer: (close) => stack.defer(close),
    ending: ending.promise,
  });
  failed = false;
}

/** Keeps crypto threads back in the background: the data plane works without, only not as fast. @returns what gives them back */
function keepThreadsBack(log: Log): () => Promise<void> {
  const opened = KeptBackThreads.open(process.env);
  opened.catch((error: unknown) => log.debug("All crypto threads take part", { error: messageOf(error) }));
  return async () => (await opened.catch(() => null))?.close();
}

/** Before anything is opened, so that every thread of ours starts without what nobody needs. */
async function dropPrivileges(
  role: Instance["role"],
  config: ServerConfig | ClientConfig,
  stateDir: string,
): Promise<void> {
  if (process.platform !== "linux") return;
  const { dropPrivileges: drop } = await import("./privileges_linux.ts");
  drop({ role, port: "listen" in config ? config.listen.port : null, stateDir });
}

function startMessage(
  role: Instance["role"],
  config: ServerConfig | ClientConfig,
  tun: TunDevice,
): Omit<StartData, "bind" | "wakeFd"> {
  return {
    kind: "start",
    role,
    tunFd: tun.fd,
    tunOffload: tun.offload,
    // One full inner packet is exactly one datagram.
    maxDatagramBytes: config.mtuBytes + RECORD_OVERHEAD_BYTES,
    mtuBytes: config.mtuBytes,
    engine: config.engine,
    keepaliveMs: config.keepaliveMs,
  };
}

/** Opens the TUN device of this system. */
async function openTun(name: string): Promise<TunDevice> {
  switch (process.platform) {
    case "linux": {
      const { openTunLinux } = await import("./tun_linux.ts");
      return openTunLinux(name);
    }
    case "darwin": {
      const { openTunMacos } = await import("./tun_macos.ts");
      return openTunMacos(name);
    }
    default:
      throw new PrivilegeError(`Cannot open a TUN device on "${process.platform}": expected Linux or macOS`);
  }
}
