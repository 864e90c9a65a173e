/** The changes that a plan means on Linux, in order, and the way back from each kind of step. */

import type { RunCommand } from "./command.ts";
import { planDns, systemDnsHost, undoResolvconf, undoResolvConf } from "./dns_linux.ts";
import { planNat, undoNat } from "./firewall_nft.ts";
import { planPolicy } from "./firewall_policy.ts";
import { planForwarding, undoForwarding } from "./forwarding_linux.ts";
import type { HostChange } from "./host_change.ts";
import type { ClientPlan, HostPlan } from "./host_plan.ts";
import type { Instance } from "./instance.ts";
import { planLink } from "./link_linux.ts";
import type { Log } from "./log.ts";
import { planRoutes } from "./route_plan.ts";
import { planRouting, undoRouting } from "./routing_linux.ts";
import type { UndoStep, UndoStepOf } from "./undo_journal.ts";

/**
 * Reads what is there and plans what has to change; changes nothing but the shared folder of forwarding claims.
 *
 * @throws {UsageError} when the plan itself is impossible
 * @throws {SystemError} when a command is missing
 */
export async function planLinux(
  plan: HostPlan,
  instance: Instance,
  run: RunCommand,
  log: Log,
): Promise<readonly HostChange[]> {
  const link = planLink(plan, run, log);
  if (plan.role === "client") return [link, ...(await planClient(plan, run, log))];
  // before forwarding is switched on
  const policy = plan.policy === undefined ? [] : [planPolicy(plan.tun, plan.policy, run)];
  if (!plan.nat) return [link, ...policy];
  return [link, ...policy, planNat(plan.tun, run, log), await planForwarding(instance, log)];
}

async function planClient(plan: ClientPlan, run: RunCommand, log: Log): Promise<readonly HostChange[]> {
  const [routing, dns] = await Promise.all([
    planRouting(plan, planRoutes(plan), run, log),
    planDns(plan.tun, plan.dns, systemDnsHost(run), log),
  ]);
  return dns === null ? [routing] : [routing, dns];
}

/** Undoes steps in the order given (the reverse of their making). Never throws: logs. */
export async function undoLinux(steps: readonly UndoStep[], run: RunCommand, log: Log): Promise<void> {
  // One process for all rules and routes: they stand together in every journal.
  for (const step of steps.filter((other) => !isRouting(other))) await undoStep(step, run, log);
  await undoRouting(steps.filter(isRouting), run, log);
}

function isRouting(step: UndoStep): step is UndoStepOf<"rule"> | UndoStepOf<"route"> {
  return step.kind === "rule" || step.kind === "route";
}

async function undoStep(step: UndoStep, run: RunCommand, log: Log): Promise<void> {
  switch (step.kind) {
    case "nft-table":
      return undoNat(step.table, run, log);
    case "forwarding":
      return undoForwarding(step, log);
    case "resolv-conf":
      return undoResolvConf(step, log);
    case "resolvconf":
      return undoResolvconf(step.record, run, log);
    default:
      log.warn(`A journal step "${step.kind}" does not belong on Linux: left alone`);
  }
}

/** Clears the device after its plan was undone: a TUN may outlive us, and the next plan starts from an empty one. */
export async function clearLinkLinux(tun: string, run: RunCommand): Promise<void> {
  await run(["ip", "-force", "-batch", "-"], `link set dev ${tun} down\naddress flush dev ${tun}\n`);
}
