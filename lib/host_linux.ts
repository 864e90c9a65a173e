/** The changes that a plan means on Linux, in order, and the way back from each kind of step. */

import { messageOf } from "./caught.ts";
import type { RunCommand } from "./command.ts";
import { planDns, systemDnsHost, undoResolvconf, undoResolvConf, undoResolved } from "./dns_linux.ts";
import { killSwitchTableName, planDnsGuard, planKillSwitch } from "./firewall_guard.ts";
import { planNat, undoNftTable } from "./firewall_nft.ts";
import { planPolicy } from "./firewall_policy.ts";
import { isClaimed, planForwarding, undoForwarding } from "./forwarding_linux.ts";
import type { HostChange, Standing } from "./host_change.ts";
import type { ClientPlan, HostPlan, KillSwitchPlan, OuterEndpoint } from "./host_plan.ts";
import type { Instance } from "./instance.ts";
import { planLink } from "./link_linux.ts";
import { localNetworks, type LocalNetworks, NO_LOCAL_NETWORKS } from "./local_networks.ts";
import type { Log } from "./log.ts";
import { planRoutes } from "./route_plan.ts";
import { isRoutingStep, ownRouting, planRouting, undoRouting } from "./routing_linux.ts";
import type { UndoStep } from "./undo_journal.ts";

/**
 * Reads what is there and plans what has to change; changes nothing but the shared folder of forwarding claims.
 *
 * @throws {UsageError} when the plan itself is impossible
 * @throws {SystemError} when a command is missing
 */
export async function planLinux(
  plan: HostPlan,
  standing: Standing,
  instance: Instance,
  run: RunCommand,
  log: Log,
): Promise<readonly HostChange[]> {
  const link = planLink(plan, standing.plan, run, log);
  if (plan.role === "client") return [link, ...(await planClient(plan, standing, run, log))];
  // before forwarding is switched on
  const policy = plan.policy === undefined ? [] : [planPolicy(plan.tun, plan.policy, run)];
  if (!plan.nat) return [link, ...policy];
  return [link, ...policy, planNat(plan.tun, run, log), await planForwarding(instance, log)];
}

async function planClient(
  plan: ClientPlan,
  standing: Standing,
  run: RunCommand,
  log: Log,
): Promise<readonly HostChange[]> {
  const { tun, dns: servers, searchDomains, fullTunnel } = plan;
  const routes = planRoutes(plan);
  const local = fullTunnel ? await readLocalNetworks(tun, run, log) : NO_LOCAL_NETWORKS;
  const request = { tun, servers, searchDomains, fullTunnel };
  const [routing, dns] = await Promise.all([
    planRouting(plan, routes, local, standing.steps("routing"), run, log),
    planDns(request, systemDnsHost(run), standing.steps("DNS"), log),
  ]);
  // The guard comes last: before it, queries to the old servers still get an answer, through the tunnel.
  return [routing, dns, planDnsGuard(plan, local, run)].filter((change) => change !== null);
}

/** Plans a client's kill switch. */
export async function planKillSwitchLinux(
  plan: KillSwitchPlan,
  endpoints: readonly OuterEndpoint[],
  run: RunCommand,
  log: Log,
): Promise<HostChange> {
  return planKillSwitch(plan, endpoints, await readLocalNetworks(plan.tun, run, log), run);
}

/** Removes the kill switch of an interface that is gone; one that is there has a living owner. @returns whether it did */
export async function removeKillSwitchLinux(tun: string, run: RunCommand): Promise<boolean> {
  const table = killSwitchTableName(tun);
  try {
    if ((await run(["ip", "link", "show", "dev", tun])).status === 0) return false;
    if ((await run(["nft", "list", "table", "inet", table])).status !== 0) return false;
    return (await run(["nft", "delete", "table", "inet", table])).status === 0;
  } catch {
    return false; // without ip or nft there is no table of ours
  }
}

async function readLocalNetworks(tun: string, run: RunCommand, log: Log): Promise<LocalNetworks> {
  const [links, routes4, routes6] = await Promise.all(
    [
      ["-details", "link", "show"],
      ["-4", "route", "show", "table", "main"],
      ["-6", "route", "show", "table", "main"],
    ].map(async (words) => (await run(["ip", "-json", ...words])).stdout),
  );
  try {
    return localNetworks({ links: links ?? "", routes4: routes4 ?? "", routes6: routes6 ?? "" }, tun);
  } catch (error) {
    log.warn(`Cannot read the networks that this machine is connected to: ${messageOf(error)}`);
    return NO_LOCAL_NETWORKS;
  }
}

/** Undoes steps in the order given (the reverse of their making). Never throws: logs. */
export async function undoLinux(steps: readonly UndoStep[], run: RunCommand, log: Log): Promise<void> {
  // One process for all rules and routes: they stand together in every journal.
  for (const step of steps.filter((other) => !isRoutingStep(other))) await undoStep(step, run, log);
  await undoRouting(steps.filter(isRoutingStep), run, log);
}

/**
 * The steps of an earlier boot that are worth undoing: a reboot leaves files, and forgets all else. Should something be
 * there nevertheless, it is removed if it is surely ours.
 */
export async function stepsAfterReboot(
  steps: readonly UndoStep[],
  tun: string,
  run: RunCommand,
): Promise<readonly UndoStep[]> {
  const routing = await ownRouting(steps.filter(isRoutingStep), tun, run);
  return steps.filter((step) => {
    if (isRoutingStep(step)) return routing.includes(step);
    return step.kind !== "forwarding" || isClaimed(step);
  });
}

async function undoStep(step: UndoStep, run: RunCommand, log: Log): Promise<void> {
  switch (step.kind) {
    case "nft-table":
    case "kill-switch":
      return undoNftTable(step.table, run, log);
    case "forwarding":
      return undoForwarding(step, log);
    case "resolv-conf":
      return undoResolvConf(step, log);
    case "resolvconf":
      return undoResolvconf(step.record, run, log);
    case "resolved":
      return undoResolved(step.tun, run, log);
    default:
      log.warn(`A journal step "${step.kind}" does not belong on Linux: left alone`);
  }
}

/** Clears the device after its plan was undone: a TUN may outlive us, and the next plan starts from an empty one. */
export async function clearLinkLinux(tun: string, run: RunCommand): Promise<void> {
  await run(["ip", "-force", "-batch", "-"], `link set dev ${tun} down\naddress flush dev ${tun}\n`);
}
