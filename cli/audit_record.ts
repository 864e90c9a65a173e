/** Records what somebody did at the command line in the audit log of an instance, whether its server runs or not. */

import type { AuditEvent } from "../lib/audit_event.ts";
import { AuditLog, auditFiles } from "../lib/audit_log.ts";
import { systemClock } from "../lib/clock.ts";
import type { Instance } from "../lib/instance.ts";
import { currentActor } from "../lib/process_identity.ts";
import { createProcessLog } from "../lib/log_consola.ts";

/**
 * Records a change that was made. A log that cannot be written is told on stderr and does not undo the change.
 *
 * @param action what was done, for example `user add`
 * @param target to whom or what
 * @param detail for a person to read; never a secret; left out when empty
 */
export async function recordChange(
  instance: Instance,
  action: string,
  target: string,
  detail = "",
): Promise<void> {
  const more = detail === "" ? {} : { detail };
  await record(instance, [{ type: "admin", actor: currentActor(), action, target, ...more }]);
}

/** Records that certificates were revoked. */
export async function recordRevocations(
  instance: Instance,
  certificates: readonly { readonly serial: string; readonly name: string }[],
): Promise<void> {
  const reason = `by ${currentActor()}`;
  await record(
    instance,
    certificates.map(({ serial, name }) => ({ type: "revoked", serial, name, reason })),
  );
}

async function record(instance: Instance, events: readonly AuditEvent[]): Promise<void> {
  const log = createProcessLog("warn", "text");
  const audit = new AuditLog(auditFiles(instance), { onFull: "continue", clock: systemClock, log });
  for (const event of events) audit.record(event);
  await audit.close();
}
