/**
 * A client's routes and policy rules on Linux (ip-route(8), ip-rule(8)).
 *
 * A full tunnel leaves the machine's own routes alone. Four rules, in order, in front of the main table:
 *
 *     pref P    to SERVER                  lookup main    our own packets go outside
 *     pref P+1  to EXCLUDED                lookup main
 *     pref P+2  suppress_prefixlength 0    lookup main    connected and specific routes still win
 *     pref P+3                             lookup TABLE   TABLE has one route: default into the TUN
 *
 * The first rule names no port: the kernel looks the route up without ports when "fragmentation needed" arrives, and a
 * rule with ports would send what it learned to the wrong route. So other traffic to the server's own address stays
 * outside too.
 *
 * So later changes of the main table (another Wi-Fi, another gateway) count at once. A family without a tunnel address
 * gets `unreachable default` in TABLE. Several clients take different slots: each its TABLE and its preferences.
 *
 * A split tunnel needs no rule: its routes stand in the main table, with server and excludes already cut out.
 */

import { existsSync } from "node:fs";
import type { Family } from "./address.ts";
import { messageOf } from "./caught.ts";
import type { RunCommand } from "./command.ts";
import { SystemError } from "./errors.ts";
import type { HostChange } from "./host_change.ts";
import type { ClientPlan } from "./host_plan.ts";
import { runIpBatch } from "./ip_batch.ts";
import type { Log } from "./log.ts";
import type { RoutePlan } from "./route_plan.ts";
import type { UndoStep, UndoStepOf } from "./undo_journal.ts";

/** First private table; wg-quick, whose habit this is, starts there too. */
const FIRST_TABLE = 51820;
/** First rule preference: after what most other programs choose, before main (32766). */
const FIRST_PREFERENCE = 30000;
const PREFERENCES_PER_SLOT = 4;
const SLOTS = 64;

/** What we read from `ip -json rule`. */
export interface InstalledRule {
  readonly priority: number;
  readonly table?: string;
}

/** Lines for `ip -batch` of one family, and how to undo those that outlive the TUN. */
export interface FamilyRouting {
  readonly family: Family;
  readonly lines: readonly string[];
  readonly undo: readonly UndoStep[];
}

/** Reads the rules of both families; a family that the kernel lacks has none. */
export async function readRules(run: RunCommand): Promise<readonly InstalledRule[]> {
  const families = await Promise.all(
    ["-4", "-6"].map(async (family) => {
      const { status, stdout } = await run(["ip", family, "-json", "rule", "show"]);
      return status === 0 ? parseRules(stdout) : [];
    }),
  );
  return families.flat();
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
 * Chooses a slot (a table and its preferences) that no rule uses. The search starts at the number in the interface's
 * name, so that clients that start together do not meet.
 *
 * @throws {SystemError} when all slots are taken
 */
export function chooseSlot(tun: string, rules: readonly InstalledRule[]): number {
  const first = Number(/\d{1,4}$/.exec(tun)?.[0] ?? 0);
  for (let i = 0; i < SLOTS; i++) {
    const slot = (first + i) % SLOTS;
    const preference = preferenceOf(slot);
    const inUse = rules.some(
      ({ priority, table }) =>
        table === `${tableOf(slot)}` ||
        (priority >= preference && priority < preference + PREFERENCES_PER_SLOT),
    );
    if (!inUse) return slot;
  }
  const last = FIRST_TABLE + SLOTS - 1;
  throw new SystemError(
    `Cannot find a free routing table: "${FIRST_TABLE}" to "${last}" are in use`,
    "ip",
    0,
  );
}

function tableOf(slot: number): number {
  return FIRST_TABLE + slot;
}

function preferenceOf(slot: number): number {
  return FIRST_PREFERENCE + slot * PREFERENCES_PER_SLOT;
}

/** The lines and undo steps of one family. */
export function familyRouting(
  plan: ClientPlan,
  routes: RoutePlan,
  slot: number,
  family: Family,
): FamilyRouting {
  const ofFamily = routes.tunnelRoutes.filter((prefix) => prefix.address.family === family);
  // In front of a route of the same prefix without replacing it: `prepend` for IPv4, the best metric for IPv6.
  const routeLines = ofFamily.map(({ text }) =>
    family === 4 ? `route prepend ${text} dev ${plan.tun}` : `route add ${text} dev ${plan.tun} metric 1`,
  );
  const blocked = routes.blockedDefaults.includes(family);
  if (!blocked && !routes.tunnelDefaults.includes(family)) return { family, lines: routeLines, undo: [] };
  const table = `${tableOf(slot)}`;
  const target = blocked ? ["unreachable", "default"] : ["default", "dev", plan.tun];
  const rules = ruleSelectors(plan, routes, slot, family);
  return {
    family,
    lines: [
      ...routeLines,
      `route add ${target.join(" ")} table ${table}`,
      ...rules.map((selector) => `rule add ${selector.join(" ")}`),
    ],
    undo: [
      ...(blocked ? [{ kind: "route", family, route: [...target, "table", table] } as const] : []),
      ...rules.map((selector) => ({ kind: "rule", family, selector }) as const),
    ],
  };
}

function ruleSelectors(plan: ClientPlan, routes: RoutePlan, slot: number, family: Family): string[][] {
  const first = preferenceOf(slot);
  const { address } = plan.server;
  const rule = (offset: number, words: string): string[] => [
    "pref",
    `${first + offset}`,
    ...words.split(" "),
  ];
  const serverHere = address.includes(":") === (family === 6);
  const server = serverHere ? [rule(0, `to ${address} lookup main`)] : [];
  const bypasses = routes.bypasses
    .filter((prefix) => prefix.address.family === family)
    .map((prefix) => rule(1, `to ${prefix.text} lookup main`));
  return [
    ...server,
    ...bypasses,
    rule(2, "lookup main suppress_prefixlength 0"),
    rule(3, `lookup ${tableOf(slot)}`),
  ];
}

/** Plans a client's routing. Failures are warnings: the tunnel itself stands without them. */
export async function planRouting(
  plan: ClientPlan,
  routes: RoutePlan,
  run: RunCommand,
  log: Log,
): Promise<HostChange> {
  const slot = plan.fullTunnel ? chooseSlot(plan.tun, await readRules(run)) : 0;
  const families: readonly Family[] = existsSync("/proc/sys/net/ipv6") ? [4, 6] : [4];
  const routings = families.map((family) => familyRouting(plan, routes, slot, family));
  return {
    name: "routing",
    undo: routings.flatMap(({ undo }) => undo),
    onFailure: "warn",
    async apply() {
      for (const family of routes.blockedDefaults.filter((blocked) => families.includes(blocked))) {
        log.info(`The tunnel has no IPv${family} address: IPv${family} is unreachable while it is up`);
      }
      await Promise.all(routings.map((routing) => applyFamily(routing, run, log)));
    },
  };
}

async function applyFamily({ family, lines }: FamilyRouting, run: RunCommand, log: Log): Promise<void> {
  const failures = await runIpBatch(run, family, lines, { stopAtFirst: false });
  for (const { line, message } of failures)
    log.warn(`Cannot set a route (ip -${family} ${line}): ${message}`);
}

/** Removes rules and routes, exactly those named. What is gone already is not an error. */
export async function undoRouting(
  steps: readonly (UndoStepOf<"rule"> | UndoStepOf<"route">)[],
  run: RunCommand,
  log: Log,
): Promise<void> {
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

function undoLine(step: UndoStepOf<"rule"> | UndoStepOf<"route">): string {
  return step.kind === "rule" ? `rule del ${step.selector.join(" ")}` : `route del ${step.route.join(" ")}`;
}
