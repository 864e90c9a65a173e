/** Picks the engine by its name. */

import type { EngineName } from "./data_plane_message.ts";
import type { Engine } from "./engine.ts";
import { SyncEngine } from "./engine_sync.ts";
import { WebEngine } from "./engine_web.ts";

/** A new engine; each data plane has its own. */
export function openEngine(name: EngineName): Engine {
  return name === "sync" ? new SyncEngine() : new WebEngine();
}
