/** What a program may change on a machine, as text that can be compared before and after. */

import type { Machine } from "./network.ts";

/** The commands whose output must be the same before and after; each covers one kind of change. */
const STATE_COMMANDS: readonly (readonly string[])[] = [
  ["ip", "-o", "link", "show"],
  ["ip", "-o", "address", "show"],
  ["ip", "-4", "rule", "show"],
  ["ip", "-6", "rule", "show"],
  ["ip", "-4", "route", "show", "table", "all"],
  ["ip", "-6", "route", "show", "table", "all"],
  ["nft", "list", "ruleset"],
  [
    "sh",
    "-c",
    "cd /proc/sys/net; grep -H . ipv4/ip_forward ipv4/conf/*/rp_filter ipv4/conf/*/forwarding ipv6/conf/*/forwarding ipv6/conf/*/accept_ra ipv6/conf/*/disable_ipv6",
  ],
  ["sh", "-c", "ls -l --time-style=+ /etc/resolv.conf; cat /etc/resolv.conf"],
];

/**
 * Takes down interfaces, addresses, routes, rules, firewall, sysctls and resolver of a machine.
 *
 * Left out is what changes by itself: interface indices, lifetimes, counters, and whether a carrier was noticed yet.
 */
export async function machineState(machine: Machine): Promise<string> {
  const parts: string[] = [];
  for (const argv of STATE_COMMANDS) {
    const { stdout, stderr } = await undisturbed(machine, argv);
    parts.push(`# ${argv.join(" ")}\n${normalise(stdout)}${stderr}`);
  }
  return parts.join("\n");
}

/** What `ip` prints when the kernel's table changed while it was read (NLM_F_DUMP_INTR), by whoever else is at work. */
const INTERRUPTED = "Dump was interrupted";
const TRIES = 20;

/** Runs a command until it read a table that stood still. */
async function undisturbed(
  machine: Machine,
  argv: readonly string[],
): Promise<{ readonly stdout: string; readonly stderr: string }> {
  for (let tries = 1; ; tries++) {
    const result = await machine.tryRun(argv);
    if (tries === TRIES || !result.stderr.includes(INTERRUPTED)) return result;
  }
}

function normalise(text: string): string {
  return text
    .replace(/^\d+: /gm, "")
    .replace(/@if\d+/g, "")
    .replace(/link-netnsid \d+/g, "")
    .replace(/NO-CARRIER,|,LOWER_UP| linkdown| state (UP|DOWN|UNKNOWN)/g, "")
    .replace(/ expires -?\d+sec/g, "")
    .replace(/(valid|preferred)_lft \d+sec/g, "$1_lft N")
    .replace(/counter packets \d+ bytes \d+/g, "counter")
    .replace(/[ \t]+$/gm, "");
}
