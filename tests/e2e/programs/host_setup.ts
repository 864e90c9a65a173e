/**
 * A program that only changes its machine: opens a TUN, applies plans, and puts everything back at the end.
 *
 *     host_setup.ts hold STATE_DIR PLAN [PLAN]   applies the first plan; SIGUSR1: the second; SIGTERM: restores, ends
 *     host_setup.ts repair STATE_DIR ROLE TUN    prints whether there was something to put back
 *
 * Plans are JSON. Log lines and `applied in N ms` go to stderr. An error's exit status is the one of the executables.
 */

import { OmailError } from "../../../lib/errors.ts";
import type { HostPlan } from "../../../lib/host_plan.ts";
import { openHostSetup, repair } from "../../../lib/host_setup.ts";
import { openInstance } from "../../../lib/instance.ts";
import type { Log } from "../../../lib/log.ts";
import { openTunLinux } from "../../../lib/tun_linux.ts";

const write =
  (level: string) =>
  (message: string): void => {
    console.error(`${level}: ${message}`);
  };
const log: Log = { error: write("error"), warn: write("warn"), info: write("info"), debug: write("debug") };

const [verb, stateDir = "", ...rest] = Bun.argv.slice(2);
try {
  await (verb === "repair" ? repairOnce() : hold(rest.map((json) => JSON.parse(json) as HostPlan)));
} catch (error) {
  console.error(error instanceof OmailError ? `${error.name}: ${error.message}` : error);
  process.exit(error instanceof OmailError ? error.exitStatus : 99);
}

async function repairOnce(): Promise<void> {
  const [role, tun = ""] = rest;
  const instance = openInstance(role === "server" ? "server" : "client", tun, stateDir);
  console.log(await repair(instance, log));
}

async function hold([first, second]: readonly HostPlan[]): Promise<void> {
  if (first === undefined) throw new Error("expected a plan");
  const setup = await openHostSetup(openInstance(first.role, first.tun, stateDir), log);
  const tun = openTunLinux(first.tun);
  const apply = async (plan: HostPlan) => {
    const start = performance.now();
    await setup.apply(plan);
    console.error(`applied in ${Math.round(performance.now() - start)} ms`);
  };
  if (second !== undefined) process.on("SIGUSR1", () => void apply(second));
  try {
    await apply(first);
    await new Promise((resolve) => {
      process.once("SIGTERM", resolve);
      setInterval(() => undefined, 1 << 30); // keeps the process alive
    });
  } finally {
    await setup.restore();
    tun.close();
  }
  process.exit(0);
}
