/** A TLS stream between the two ends of a data plane pair: frames of one become records for the other, as in `record_stream.ts`. */

import { FrameDecoder } from "../../lib/control_frame.ts";
import type { FromDataPlane } from "../../lib/data_plane_message.ts";
import { type DataPlanePair, type End, SESSION_ID, until } from "./data_plane_pair.ts";

/** Carries on {@link pump}, so that a test decides when. */
export class StreamLink {
  /** Records that were carried, in order, with the end that sent them. */
  readonly carried: { readonly from: "client" | "server"; readonly record: Uint8Array<ArrayBuffer> }[] = [];
  /** While false, what is carried is not taken by the kernel: its window is not given back. */
  drains = true;
  readonly #pair: DataPlanePair;
  readonly #read = { client: 0, server: 0 };

  constructor(pair: DataPlanePair) {
    this.#pair = pair;
    for (const end of [pair.server, pair.client])
      end.plane.handle({ kind: "set-stream", id: SESSION_ID, up: true });
  }

  /** Carries everything that was said since the last call. */
  pump(): void {
    this.#carry("client", this.#pair.client, this.#pair.server);
    this.#carry("server", this.#pair.server, this.#pair.client);
  }

  /** Carries, and lets time pass in steps of the data plane's timer, until `condition` holds. */
  async run(condition: () => boolean): Promise<void> {
    await until(() => {
      this.#pair.clock.nowMs += 100;
      this.#pair.client.plane.tick();
      this.#pair.server.plane.tick();
      this.pump();
      return condition();
    });
  }

  #carry(name: "client" | "server", from: End, to: End): void {
    const said: readonly FromDataPlane[] = from.said.slice(this.#read[name]);
    this.#read[name] = from.said.length;
    for (const message of said) {
      if (message.kind !== "tunnel-out") continue;
      const records = new FrameDecoder().push(message.frames).map(({ body }) => body);
      this.carried.push(...records.map((record) => ({ from: name, record: record.slice() })));
      to.plane.handle({ kind: "tunnel-in", id: SESSION_ID, records });
      if (this.drains)
        from.plane.handle({ kind: "tunnel-drained", id: SESSION_ID, bytes: message.frames.length });
    }
  }
}
