/** `omail-server metrics`: what the running server counts, in Prometheus' text format. */

import type { CommandDef } from "citty";
import { parseServerStatus } from "../lib/admin_message.ts";
import { requestStatus } from "../lib/control_socket.ts";
import { command } from "./command.ts";
import { findInstance } from "./instance.ts";
import { INSTANCE_FLAGS } from "./tunnel_flags.ts";

export const metricsCommand: CommandDef = command({
  name: "metrics",
  description: "Print counters of traffic and security events in Prometheus' text format",
  args: INSTANCE_FLAGS,
  run: async ({ flags }) => {
    const { instance } = await findInstance("server", flags);
    const status = parseServerStatus(await requestStatus(instance));
    // no other command needs the library
    const { renderMetrics } = await import("../lib/metrics.ts");
    process.stdout.write(await renderMetrics(status));
  },
});
