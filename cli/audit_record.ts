/** Records what somebody did at the command line in the audit log of an instance, whether its server runs or not. */

import { auditActor } from "../lib/audit_event.ts";
import { AuditLog, auditFiles } from "../lib/audit_log.ts";
import { systemClock } from "../lib/clock.ts";
import type { Instance } from "../lib/instance.ts";
import { createProcessLog } from "../lib/log_consola.ts";

/**
 * Records a change that was made. A log that cannot be written is told on stderr and does not undo the change.
 *
 * @param action what was done, for example `user add`
 * @param target to whom or what
 * @param detail for a person to read; never a secret
 */
export async function recordChange(
  instance: Instance,
  action: string,
  target: string,
  detail: string,
): Promise<void> {
  const log = createProcessLog("warn", "text");
  const audit = new AuditLog(auditFiles(instance), { onFull: "continue", clock: systemClock, log });
  const actor = auditActor(process.getuid?.(), process.env);
  audit.record({ type: "admin", actor, action, target, detail });
  await audit.close();
}
