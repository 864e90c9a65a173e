/** What both `check` commands share: prints a report, and turns it into the exit status. */

import { checkPrivileges, checkTun } from "../lib/check_host.ts";
import { type CheckReport, exitStatusOf, finding, formatReport, makeReport } from "../lib/check_report.ts";
import { EXIT, OmailError, PrivilegeError } from "../lib/errors.ts";
import { type Instance, openInstance } from "../lib/instance.ts";
import type { FlagValues } from "./flags.ts";

/** @throws {OmailError} with exit status 1 when something failed; names it */
export function printReport(report: CheckReport, flags: FlagValues): void {
  process.stdout.write(flags["json"] === true ? `${JSON.stringify(report)}\n` : formatReport(report));
  if (exitStatusOf(report) === EXIT.ok) return;
  const failed = report.findings.filter(({ level }) => level === "failure").map(({ name }) => name);
  throw new OmailError(`The check failed: ${failed.join(", ")}`);
}

/**
 * Names the files of the instance; who may not use its directory still gets the checks of the machine, and no instance.
 *
 * @param port what is listened on; null for none
 */
export async function openCheckedInstance(
  role: Instance["role"],
  settings: { readonly tun: string; readonly "state-dir": string },
  port: number | null,
): Promise<Instance | CheckReport> {
  try {
    return openInstance(role, settings.tun, settings["state-dir"]);
  } catch (error) {
    if (!(error instanceof PrivilegeError)) throw error;
    const directory = finding("state directory", "failure", settings["state-dir"], error.message);
    return makeReport([await checkPrivileges(port), directory, ...(await checkTun())]);
  }
}
