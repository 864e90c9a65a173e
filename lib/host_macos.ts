/** The changes that a plan means on macOS, in order, and the way back. Tested as data; not yet run on a Mac. */

import type { Family } from "./address.ts";
import { messageOf } from "./caught.ts";
import { expectCommand, type RunCommand } from "./command.ts";
import { dnsCommandsMacos } from "./dns_macos.ts";
import { dnsGuardCommandsMacos, killSwitchCommandsMacos, natCommandsMacos } from "./firewall_pf.ts";
import type { HostChange, Standing } from "./host_change.ts";
import type { ClientPlan, HostPlan, KillSwitchPlan, OuterEndpoint, ServerPlan } from "./host_plan.ts";
import type { Log } from "./log.ts";
import { macChange, type MacCommand } from "./mac_command.ts";
import { planRoutes } from "./route_plan.ts";
import { linkCommandsMacos, routeCommandsMacos } from "./routing_macos.ts";
import type { UndoStep } from "./undo_journal.ts";

export { isKillSwitchCommand } from "./firewall_pf.ts";

/** Reads what is there and plans what has to change; changes nothing. */
export async function planMacos(
  plan: HostPlan,
  standing: Standing,
  run: RunCommand,
  log: Log,
): Promise<readonly HostChange[]> {
  const link = macChange("link", linkCommandsMacos(plan), "throw", run, log, standing.steps("link"));
  const rest =
    plan.role === "client" ? await planClient(plan, standing, run, log) : await planServer(plan, run, log);
  return [link, ...rest];
}

async function planClient(
  plan: ClientPlan,
  standing: Standing,
  run: RunCommand,
  log: Log,
): Promise<readonly HostChange[]> {
  const [ipv4, ipv6] = await Promise.all(
    [4, 6].map((family) => defaultRoute(family as Family, "gateway", run)),
  );
  const routes = routeCommandsMacos(plan, planRoutes(plan), { 4: ipv4 ?? null, 6: ipv6 ?? null });
  const change = (name: string, commands: readonly MacCommand[]): HostChange =>
    macChange(name, commands, "warn", run, log, standing.steps(name));
  return [
    change("routing", routes),
    change("DNS", dnsCommandsMacos(plan.tun, plan.dns, plan.searchDomains, plan.fullTunnel)),
    change("DNS guard", dnsGuardCommandsMacos(plan)),
  ];
}

/** Plans a client's kill switch. */
export async function planKillSwitchMacos(
  plan: KillSwitchPlan,
  endpoints: readonly OuterEndpoint[],
  run: RunCommand,
  log: Log,
): Promise<HostChange> {
  return macChange("kill switch", killSwitchCommandsMacos(plan, endpoints), "throw", run, log);
}

async function planServer(plan: ServerPlan, run: RunCommand, log: Log): Promise<readonly HostChange[]> {
  if (!plan.nat) return [];
  const egress = (await defaultRoute(4, "interface", run)) ?? "en0";
  const [ipv4, ipv6] = await Promise.all(
    ["net.inet.ip.forwarding", "net.inet6.ip6.forwarding"].map(async (name) =>
      (await expectCommand(run, `Cannot read "${name}"`, ["sysctl", "-n", name])).trim(),
    ),
  );
  const commands = natCommandsMacos(plan, egress, { ipv4: ipv4 ?? "0", ipv6: ipv6 ?? "0" });
  return [macChange("NAT", commands, "throw", run, log)];
}

async function defaultRoute(
  family: Family,
  field: "gateway" | "interface",
  run: RunCommand,
): Promise<string | null> {
  const { stdout } = await run(["route", "-n", "get", family === 4 ? "-inet" : "-inet6", "default"]);
  return new RegExp(`^\\s*${field}: (\\S+)`, "m").exec(stdout)?.[1] ?? null;
}

/** Undoes steps in the order given. Never throws: logs. */
export async function undoMacos(steps: readonly UndoStep[], run: RunCommand, log: Log): Promise<void> {
  for (const step of steps) {
    if (step.kind !== "command") {
      log.warn(`A journal step "${step.kind}" does not belong on macOS: left alone`);
      continue;
    }
    try {
      await expectCommand(run, `Cannot run "${step.argv.join(" ")}"`, step.argv, step.input);
    } catch (error) {
      log.warn(messageOf(error));
    }
  }
}
