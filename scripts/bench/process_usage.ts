/** What `/proc` tells of running programs: processor time and memory (proc_pid_stat(5), proc_pid_status(5)). */

import { readFileSync } from "node:fs";
import type { Started } from "./testbed.ts";

/** Clock ticks a second in `/proc`: USER_HZ, fixed at 100 by the ABI of every architecture that Bun runs on. */
const USER_HZ = 100;

/** Seconds of user and system time in the text of `/proc/PID/stat`, all threads together. */
export function parseCpuSeconds(stat: string): number {
  // the name, field 2, is in brackets and may hold anything: field 3 is the first after them
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[14 - 3]) + Number(fields[15 - 3])) / USER_HZ;
}

/** Resident memory in MiB in the text of `/proc/PID/status`; 0 for a process that has none. */
export function parseRssMib(status: string): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024;
}

/** Processor time of all programs so far. */
export function cpuSeconds(programs: readonly Started[]): number {
  return programs.reduce(
    (sum, { pid }) => sum + parseCpuSeconds(readFileSync(`/proc/${pid}/stat`, "utf8")),
    0,
  );
}

/** Resident memory of the programs of a kind, in MiB. */
export function rssMib(programs: readonly Started[], kind: "server" | "client"): number {
  return programs
    .filter(({ side }) => (kind === "server") === (side === "server"))
    .reduce((sum, { pid }) => sum + parseRssMib(readFileSync(`/proc/${pid}/status`, "utf8")), 0);
}
