/** Asks the data plane for fresh counters, and does not wait for ever. */

import type { DataPlanePort } from "./data_plane_message.ts";

/** A data plane that is this late is busy: the counters of the last second must do. */
const ANSWER_MS = 300;

/** Requests in flight on one data plane; the owner of the port passes the answers on. */
export class StatsRequests {
  readonly #port: DataPlanePort;
  readonly #waiting = new Map<number, () => void>();
  #lastId = 0;

  constructor(port: DataPlanePort) {
    this.#port = port;
  }

  /** Resolves when the answer arrived, or after {@link ANSWER_MS} without one. */
  async refresh(): Promise<void> {
    const requestId = ++this.#lastId;
    const answer = Promise.withResolvers<void>();
    const timer = setTimeout(answer.resolve, ANSWER_MS);
    this.#waiting.set(requestId, answer.resolve);
    this.#port.post({ kind: "get-stats", requestId });
    await answer.promise;
    clearTimeout(timer);
    this.#waiting.delete(requestId);
  }

  /** A report came; `requestId` is 0 for one that nobody asked for. */
  arrived(requestId: number): void {
    this.#waiting.get(requestId)?.();
  }
}
