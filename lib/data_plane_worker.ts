/** Starts the data plane in a Worker and speaks with it; the other end is `data_worker.ts`. */

import type { DataPlanePort, FromDataPlane, StartData, ToDataPlane } from "./data_plane_message.ts";
import { libc, ptr } from "./libc.ts";
import { EFD_CLOEXEC, EFD_NONBLOCK, eventfd } from "./libc_linux.ts";
import { OmailError, PrivilegeError, SystemError, UsageError } from "./errors.ts";

/** A data plane in a Worker. */
export interface WorkerDataPlane extends DataPlanePort {
  /** Resolves to the UDP port when the socket is bound; messages may be posted before. */
  readonly ready: Promise<number>;
  /** Never resolves; rejects when the data plane could not start or died. */
  readonly failure: Promise<never>;
  /** Stops the data plane and ends the Worker. */
  stop(): Promise<void>;
}

/** How long the Worker may take to close its socket before it is ended without. */
const STOP_TIMEOUT_MS = 2_000;

/**
 * The Worker's file. Inside an executable it is found under the name it had as an entry point of the build; a URL
 * relative to this file is not.
 */
function workerFile(): string | URL {
  return Bun.isStandaloneExecutable ? "./lib/data_worker.ts" : new URL("./data_worker.ts", import.meta.url);
}

/** Starts the Worker and sends it `start`. */
export function startWorkerDataPlane(options: Omit<StartData, "wakeFd">): WorkerDataPlane {
  const wakeFd = process.platform === "linux" ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1;
  const one = new BigUint64Array([1n]);
  const start: StartData = { ...options, wakeFd };
  const worker = new Worker(workerFile());
  const ready = Promise.withResolvers<number>();
  const failure = Promise.withResolvers<never>();
  const stopped = Promise.withResolvers<void>();
  /** Messages that came before anybody listened. */
  const early: FromDataPlane[] = [];
  let receive: ((message: FromDataPlane) => void) | null = null;
  const fail = (error: Error): void => {
    ready.reject(error);
    failure.reject(error);
    stopped.resolve();
  };
  worker.onmessage = ({ data: message }: MessageEvent<FromDataPlane>) => {
    if (message.kind === "failed") fail(makeError(message.errorName, message.message));
    else if (message.kind === "stopped") stopped.resolve();
    else if (message.kind === "ready") ready.resolve(message.port);
    else if (receive === null) early.push(message);
    else receive(message);
  };
  worker.onerror = (event) => fail(new SystemError(`The data plane died: ${event.message}`, "Worker", 0));
  // Both are looked at by whoever holds this object, possibly later than they reject.
  ready.promise.catch(() => {});
  failure.promise.catch(() => {});
  const post = (message: ToDataPlane): void => {
    const moved = message.kind === "tunnel-in" ? message.records.map(({ buffer }) => buffer) : [];
    worker.postMessage(message, moved);
    // a thread that sleeps in poll(2) hears no message
    if (wakeFd >= 0) libc.write(wakeFd, ptr(one), 8);
  };
  post(start);
  return {
    ready: ready.promise,
    failure: failure.promise,
    post,
    onMessage: (receiver) => {
      receive = receiver;
      for (const message of early.splice(0)) receiver(message);
    },
    stop: async () => {
      post({ kind: "stop" });
      const timer = setTimeout(stopped.resolve, STOP_TIMEOUT_MS);
      await stopped.promise;
      clearTimeout(timer);
      worker.terminate();
    },
  };
}

/** Makes an error again that crossed the thread as name and message. */
function makeError(name: string, message: string): Error {
  if (name === "UsageError") return new UsageError(message);
  if (name === "PrivilegeError") return new PrivilegeError(message);
  if (name === "SystemError") return new SystemError(message, "data plane", 0);
  return new OmailError(message);
}
