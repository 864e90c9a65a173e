/**
 * A client's routes and policy rules on Linux (ip-route(8), ip-rule(8)).
 *
 * A full tunnel leaves the machine's own routes alone. Its rules stand in front of the main table, in one block of
 * preferences that ends with a mark; what stays outside jumps to the mark, and from there to whatever comes next:
 *
 *     Q    to SERVER         goto P+5       our own packets; every address of a server that may be dialled
 *     P    to EXCLUDED       goto P+5
 *     P    DHCP              goto P+5       IPv4: a lease is renewed by unicast
 *     P+1  to INSIDE         goto P+5       containers, other tunnels: see `local_networks.ts`
 *     P+2  dport 53, 853     lookup TABLE   DNS, before the local network could answer it
 *     P+3  to LAN            goto P+5       only with --allow-lan
 *     P+4                    lookup TABLE   TABLE has one route: default into the TUN
 *     P+5                    nop            the mark
 *
 * The rule for a server names no port: the kernel looks the route up without ports when "fragmentation needed" arrives,
 * and a rule with ports would send what it learned to the wrong route. So other traffic to the server's own address
 * stays outside too (a kill switch stops it). A family without a tunnel address gets `unreachable` in place of TABLE.
 * Specific routes of the main table do not win: a DHCP server could draw traffic out of the tunnel with one
 * ("TunnelVision", CVE-2024-3661). Later changes of the main table (another Wi-Fi, another gateway) count at once.
 *
 * Several clients take different blocks. The latest comes first, and jumping to the mark leads into the block of the
 * one before: a tunnel inside a tunnel. The rules Q for the servers stand in front of all blocks, those of the earliest
 * client first: the packets of an outer tunnel must not go into the inner one, which would be a loop.
 *
 * The route in TABLE has the scope `global`, though it has no gateway: so the kernel does not use it to look for the
 * interface of a gateway when somebody adds a route without saying one (fib_check_nh in net/ipv4/fib_semantics.c).
 *
 * A split tunnel needs no rule: its routes stand in the main table, with servers and excludes already cut out.
 */

import { existsSync } from "node:fs";
import type { Family } from "./address.ts";
import { messageOf } from "./caught.ts";
import type { RunCommand } from "./command.ts";
import { SystemError } from "./errors.ts";
import type { HostChange } from "./host_change.ts";
import type { ClientPlan } from "./host_plan.ts";
import { runIpBatch } from "./ip_batch.ts";
import { type LocalNetworks, ofFamily } from "./local_networks.ts";
import type { Log } from "./log.ts";
import type { RoutePlan } from "./route_plan.ts";
import type { UndoStep, UndoStepOf } from "./undo_journal.ts";

/** First private table; wg-quick, whose habit this is, starts there too. */
const FIRST_TABLE = 51820;
/** First rule preference: after what most other programs choose, before main (32766). */
const FIRST_PREFERENCE = 30000;
const PREFERENCES_PER_SLOT = 8;
/** Preferences Q, one for each slot. */
const FRONT_PREFERENCE = 29900;
const SLOTS = 64;
/** Preferences inside a block. */
const OUTSIDE = 0;
const INSIDE = 1;
const DNS = 2;
const LAN = 3;
const TUNNEL = 4;
const MARK = 5;
/** DNS (RFC 1035), and over TLS or QUIC (RFC 7858, RFC 9250). */
export const DNS_PORTS: readonly number[] = [53, 853];

/** What we read from `ip -json rule`. */
export interface InstalledRule {
  readonly priority: number;
  readonly table?: string;
}

/** A route or a rule of ours; its text after `ip route add`, `ip rule add`. */
export type RoutingStep = UndoStepOf<"rule"> | UndoStepOf<"route">;

/** Reads the rules of one family; none when the kernel lacks it. */
async function readRules(family: Family, run: RunCommand): Promise<readonly InstalledRule[]> {
  const { status, stdout } = await run(["ip", `-${family}`, "-json", "rule", "show"]);
  return status === 0 ? parseRules(stdout) : [];
}

/** Reads the output of `ip -json rule show`; what has no priority is not a rule. */
export function parseRules(json: string): InstalledRule[] {
  const value: unknown = JSON.parse(json.trim() || "[]");
  return Array.isArray(value) ? value.filter(isInstalledRule) : [];
}

function isInstalledRule(value: unknown): value is InstalledRule {
  return (
    typeof value === "object" && value !== null && "priority" in value && typeof value.priority === "number"
  );
}

/**
 * Chooses a slot (a table and its preferences) in front of all that are in use, so that this tunnel may run inside an
 * earlier one. The number in the interface's name keeps clients that start together apart.
 *
 * @throws {SystemError} when all slots are taken
 */
export function chooseSlot(tun: string, rules: readonly InstalledRule[]): number {
  const used = new Set(rules.map(slotOf).filter((slot) => slot !== null));
  const number = Number(/\d{1,4}$/.exec(tun)?.[0] ?? 0) % SLOTS;
  const last = SLOTS - 1;
  const first = Math.min(last - number, ...[...used].map((slot) => slot - 1));
  for (let i = 0; i < SLOTS; i++) {
    const slot = (first - i + 2 * SLOTS) % SLOTS;
    if (!used.has(slot)) return slot;
  }
  throw new SystemError(
    `Cannot find a free routing table: "${FIRST_TABLE}" to "${FIRST_TABLE + last}" are in use`,
    "ip",
    0,
  );
}

/** The slot that a rule of ours or of somebody else occupies. */
function slotOf({ priority, table }: InstalledRule): number | null {
  const ofTable = Number(table) - FIRST_TABLE;
  if (ofTable >= 0 && ofTable < SLOTS) return ofTable;
  const fromEnd = priority - FRONT_PREFERENCE;
  if (fromEnd >= 0 && fromEnd < SLOTS) return SLOTS - 1 - fromEnd;
  const ofPreference = Math.floor((priority - FIRST_PREFERENCE) / PREFERENCES_PER_SLOT);
  return ofPreference >= 0 && ofPreference < SLOTS ? ofPreference : null;
}

function tableOf(slot: number): string {
  return `${FIRST_TABLE + slot}`;
}

/** The slot of standing rules; null when there is none. */
export function slotOfSteps(steps: readonly UndoStep[]): number | null {
  for (const step of steps) {
    if (step.kind === "rule") return slotOf({ priority: Number(step.selector[1]) });
  }
  return null;
}

/** The routes and rules of one family, in the order of their making. */
export function familyRouting(
  plan: ClientPlan,
  routes: RoutePlan,
  local: LocalNetworks,
  slot: number,
  family: Family,
): readonly RoutingStep[] {
  const route = (words: string): RoutingStep => ({ kind: "route", family, route: words.split(" ") });
  if (!plan.fullTunnel) {
    return ofFamily(routes.tunnelRoutes, family).map(({ text }) =>
      // The best metric puts an IPv6 route in front of one to the same network; IPv4's are prepended.
      route(`${text} dev ${plan.tun}${family === 6 ? " metric 1" : ""}`),
    );
  }
  const blocked = routes.blockedDefaults.includes(family);
  const scope = family === 4 ? " scope global" : ""; // IPv6 has no scopes, and looks into the route's own table first
  const rules = ruleSelectors(plan, routes, local, slot, family, blocked);
  return [
    ...(blocked ? [] : [route(`default dev ${plan.tun}${scope} table ${tableOf(slot)}`)]),
    ...rules.map((selector) => ({ kind: "rule", family, selector }) as const),
  ];
}

function ruleSelectors(
  plan: ClientPlan,
  routes: RoutePlan,
  local: LocalNetworks,
  slot: number,
  family: Family,
  blocked: boolean,
): readonly (readonly string[])[] {
  const first = FIRST_PREFERENCE + slot * PREFERENCES_PER_SLOT;
  const front = FRONT_PREFERENCE + SLOTS - 1 - slot;
  const rule = (offset: number, words: string): string[] => [
    "pref",
    `${first + offset}`,
    ...words.split(" "),
  ];
  const around = `goto ${first + MARK}`;
  const into = blocked ? "unreachable" : `lookup ${tableOf(slot)}`;
  const lan = plan.allowLan ? ofFamily(local.lan, family) : [];
  return [
    // First, so that no jump is ever without its target.
    rule(MARK, "nop"),
    ...ofFamily(routes.servers, family).map(({ text }) => rule(front - first, `to ${text} ${around}`)),
    ...ofFamily(routes.bypasses, family).map(({ text }) => rule(OUTSIDE, `to ${text} ${around}`)),
    ...(family === 4 ? [rule(OUTSIDE, `ipproto udp sport 68 dport 67 ${around}`)] : []),
    ...ofFamily(local.inside, family).map(({ text }) => rule(INSIDE, `to ${text} ${around}`)),
    ...(plan.guardDns ? DNS_PORTS.map((port) => rule(DNS, `dport ${port} ${into}`)) : []),
    ...lan.map(({ text }) => rule(LAN, `to ${text} ${around}`)),
    rule(TUNNEL, into),
  ];
}

/**
 * Plans a client's routing. Failures are warnings: the tunnel itself stands without them.
 *
 * @param standing steps of the routing that this one takes the place of; common ones stay untouched
 */
export async function planRouting(
  plan: ClientPlan,
  routes: RoutePlan,
  local: LocalNetworks,
  standing: readonly UndoStep[],
  run: RunCommand,
  log: Log,
): Promise<HostChange> {
  const families: readonly Family[] = existsSync("/proc/sys/net/ipv6") ? [4, 6] : [4];
  const rules = plan.fullTunnel ? await Promise.all(families.map((family) => readRules(family, run))) : [];
  const slot = plan.fullTunnel ? (slotOfSteps(standing) ?? chooseSlot(plan.tun, rules.flat())) : 0;
  const wanted = families.map((family) => familyRouting(plan, routes, local, slot, family));
  const before = families.map((family, i) => stillThere(standing, family, slot, rules[i] ?? []));
  const steps = wanted.flat();
  return {
    name: "routing",
    key: JSON.stringify([steps, before.map((present) => present.complete)]),
    undo: steps,
    onFailure: "warn",
    async apply() {
      for (const family of standing.length > 0
        ? []
        : routes.blockedDefaults.filter((f) => families.includes(f))) {
        log.info(`The tunnel has no IPv${family} address: IPv${family} is blocked while it is up`);
      }
      const transitions = families.map((family, i) =>
        applyFamily(family, transition(before[i]?.steps ?? [], wanted[i] ?? []), run, log),
      );
      await Promise.all(transitions);
    },
  };
}

/**
 * What stands of the earlier routing. Somebody may have removed rules of ours (systemd-networkd removes rules it does
 * not know): then all count as gone, and are made again.
 */
function stillThere(
  standing: readonly UndoStep[],
  family: Family,
  slot: number,
  rules: readonly InstalledRule[],
): { readonly steps: readonly RoutingStep[]; readonly complete: boolean } {
  const steps = standing.filter(isRoutingStep).filter((step) => step.family === family);
  const made = steps.filter(({ kind }) => kind === "rule").length;
  const found = rules.filter(({ priority }) => slotOf({ priority }) === slot).length;
  const complete = made === 0 || found === made;
  return { steps: complete ? steps : steps.filter(({ kind }) => kind === "route"), complete };
}

export function isRoutingStep(step: UndoStep): step is RoutingStep {
  return step.kind === "rule" || step.kind === "route";
}

/** The `ip -batch` lines from one routing to the next: what is new comes before what is old goes. */
export function transition(before: readonly RoutingStep[], after: readonly RoutingStep[]): readonly string[] {
  const [had, wanted] = [new Set(before.map(textOf)), new Set(after.map(textOf))];
  return [
    ...after.filter((step) => !had.has(textOf(step))).map(addLine),
    ...before.filter((step) => !wanted.has(textOf(step))).map(undoLine),
  ];
}

function textOf(step: RoutingStep): string {
  return step.kind === "rule" ? `rule ${step.selector.join(" ")}` : `route ${step.route.join(" ")}`;
}

function addLine(step: RoutingStep): string {
  if (step.kind === "rule") return `rule add ${step.selector.join(" ")}`;
  // In front of a route of the same prefix without replacing it.
  const verb = step.family === 4 && !step.route.includes("table") ? "prepend" : "add";
  return `route ${verb} ${step.route.join(" ")}`;
}

async function applyFamily(
  family: Family,
  lines: readonly string[],
  run: RunCommand,
  log: Log,
): Promise<void> {
  const failures = await runIpBatch(run, family, lines, { stopAtFirst: false });
  for (const { line, message } of failures) {
    // Gone, or there, already: what was wanted. A route that exists is somebody else's.
    if (line.includes(" del ") || (line.startsWith("rule") && /exists/.test(message))) continue;
    log.warn(`Cannot set a route (ip -${family} ${line}): ${message}`);
  }
}

/**
 * Those steps that cannot belong to another tunnel: a slot whose table leads into another device is somebody else's by
 * now.
 */
export async function ownRouting(
  steps: readonly RoutingStep[],
  tun: string,
  run: RunCommand,
): Promise<readonly RoutingStep[]> {
  const slot = slotOfSteps(steps);
  if (slot === null) return steps;
  const outputs = await Promise.all(
    ["-4", "-6"].map((family) => run(["ip", family, "route", "show", "table", tableOf(slot)])),
  );
  const devices = outputs.flatMap(({ stdout }) =>
    [...stdout.matchAll(/\bdev (\S+)/g)].map(([, name]) => name),
  );
  return devices.every((name) => name === tun) ? steps : [];
}

/** Removes rules and routes, exactly those named. What is gone already is not an error. */
export async function undoRouting(steps: readonly RoutingStep[], run: RunCommand, log: Log): Promise<void> {
  const families: readonly Family[] = [4, 6];
  await Promise.all(
    families.map(async (family) => {
      const lines = steps.filter((step) => step.family === family).map(undoLine);
      try {
        const failures = await runIpBatch(run, family, lines, { stopAtFirst: false });
        for (const { line, message } of failures)
          log.debug(`Already gone (ip -${family} ${line}): ${message}`);
      } catch (error) {
        log.warn(`Cannot put IPv${family} routing back: ${messageOf(error)}`);
      }
    }),
  );
}

function undoLine(step: RoutingStep): string {
  return step.kind === "rule" ? `rule del ${step.selector.join(" ")}` : `route del ${step.route.join(" ")}`;
}
