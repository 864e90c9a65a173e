/** Picks the engine by its name. */

import type { EngineName } from "./data_plane_message.ts";
import type { Engine } from "./engine.ts";
import { SyncEngine } from "./engine_sync.ts";
import { WebEngine } from "./engine_web.ts";

/**
 * A new engine; each data plane has its own.
 *
 * @param yieldProcessor lets other threads use this thread's processor: sched_yield(2)
 */
export function openEngine(name: EngineName, yieldProcessor: () => void): Engine {
  return name === "sync" ? new SyncEngine() : new WebEngine(yieldProcessor);
}
