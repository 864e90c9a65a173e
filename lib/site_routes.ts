/**
 * Routes to the networks behind a server's clients (site to site): into the tunnel, while the server runs.
 *
 * They come and go with the users, so they are no part of a host plan, whose change would take the interface down.
 */

import { parseNetwork } from "./address.ts";
import { messageOf } from "./caught.ts";
import type { RunCommand } from "./command.ts";
import type { HostChange } from "./host_change.ts";
import { runIpBatch } from "./ip_batch.ts";
import type { Log } from "./log.ts";
import type { UndoStep } from "./undo_journal.ts";

/** Name of the change, in which they all are. */
export const SITE_ROUTES = "the routes to networks behind clients";

/** Which networks are new and which are no longer wanted (CIDR). */
export interface RouteDifference {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/** What changes from one list of networks to another. */
export function routeDifference(before: readonly string[], after: readonly string[]): RouteDifference {
  return {
    added: after.filter((network) => !before.includes(network)),
    removed: before.filter((network) => !after.includes(network)),
  };
}

/** Plans the change from one list of networks to another. A route that cannot be set is logged: somebody else may have one to the same network. */
export function siteRouteChange(
  tun: string,
  before: readonly string[],
  after: readonly string[],
  run: RunCommand,
  log: Log,
  platform: NodeJS.Platform = process.platform,
): HostChange {
  const isMac = platform === "darwin";
  const apply = isMac ? applyMacos : applyLinux;
  return {
    name: SITE_ROUTES,
    key: after.join(","),
    undo: after.map((network): UndoStep => {
      const { family } = parseNetwork(network).address;
      return isMac
        ? { kind: "command", argv: macRoute("delete", network, tun) }
        : { kind: "route", family, route: [network, "dev", tun] };
    }),
    onFailure: "warn",
    apply: () => apply(tun, routeDifference(before, after), run, log),
  };
}

async function applyLinux(
  tun: string,
  difference: RouteDifference,
  run: RunCommand,
  log: Log,
): Promise<void> {
  const lines = [
    ...difference.removed.map((network) => `route del ${network} dev ${tun}`),
    ...difference.added.map((network) => `route add ${network} dev ${tun}`),
  ];
  const failures = await runIpBatch(run, null, lines, { stopAtFirst: false });
  for (const { line, message } of failures) {
    const text = `Cannot change a route to a network behind a client (ip ${line}): ${message}`;
    if (line.startsWith("route del")) log.debug(text);
    else log.warn(text);
  }
}

async function applyMacos(
  tun: string,
  difference: RouteDifference,
  run: RunCommand,
  log: Log,
): Promise<void> {
  const commands = [
    ...difference.removed.map((network) => macRoute("delete", network, tun)),
    ...difference.added.map((network) => macRoute("add", network, tun)),
  ];
  for (const argv of commands) {
    const { status, stderr } = await run(argv).catch((error: unknown) => ({
      status: -1,
      stderr: messageOf(error),
    }));
    if (status !== 0) log.warn(`Cannot change a route to a network behind a client: ${stderr.trim()}`);
  }
}

function macRoute(verb: "add" | "delete", network: string, tun: string): string[] {
  const family = parseNetwork(network).address.family === 4 ? "-inet" : "-inet6";
  return ["route", "-q", "-n", verb, family, network, "-interface", tun];
}
