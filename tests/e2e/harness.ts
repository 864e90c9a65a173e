/**
 * One end-to-end test: a network of its own, a limit in time, the logs when it fails, and nothing left behind.
 *
 * The topology is drawn in `harness/network.ts`. Needs root, /dev/net/tun and the executables (`bun run build`).
 * `TIMEOUT_SCALE` gives slow machines more time.
 */

import { test } from "bun:test";
import { existsSync } from "node:fs";
import { Network } from "./harness/network.ts";
import { timeoutSeconds, within } from "./harness/timing.ts";

export interface NetworkTestOptions {
  /** Client machines; 1 if not given. */
  readonly clients?: number;
  /** Time for the test's body in seconds, scaled; 40 if not given. */
  readonly limitSeconds?: number;
}

/** Lines of each program's output that a failing test shows. */
const SHOWN_LINES = 60;

/** Registers a test whose body gets a fresh network. */
export function networkTest(
  name: string,
  options: NetworkTestOptions,
  body: (network: Network) => Promise<void>,
): void {
  const limitMs = timeoutSeconds(options.limitSeconds ?? 40);
  // Bun's own limit comes last, so that the clean-up below runs before it.
  test(name, () => runInNetwork(options.clients ?? 1, limitMs, body), limitMs + timeoutSeconds(30));
}

async function runInNetwork(
  clients: number,
  limitMs: number,
  body: (network: Network) => Promise<void>,
): Promise<void> {
  requirePrivileges();
  const network = await Network.make(clients);
  const interrupted = () => void network.remove().finally(() => process.exit(130));
  process.once("SIGINT", interrupted);
  process.once("SIGTERM", interrupted);
  try {
    await within("The test", limitMs, body(network));
  } catch (error) {
    showLogs(network);
    throw error;
  } finally {
    process.off("SIGINT", interrupted);
    process.off("SIGTERM", interrupted);
    await network.remove();
  }
}

/** A missing privilege fails the test instead of skipping it: a green run must mean that it ran. */
function requirePrivileges(): void {
  if (process.getuid?.() !== 0) throw new Error("End-to-end tests make network namespaces: run them as root");
  if (!existsSync("/dev/net/tun"))
    throw new Error('End-to-end tests need "/dev/net/tun": load the kernel module tun');
}

function showLogs(network: Network): void {
  for (const program of network.machines.flatMap((machine) => machine.programs)) {
    const lines = program.output.trimEnd().split("\n").slice(-SHOWN_LINES);
    console.error(`--- ${program.title} (process ${program.pid}) said:\n${lines.join("\n")}`);
  }
}
