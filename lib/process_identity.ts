/**
 * Who a process is, beyond its reusable number: boot, number, start time and network namespace (proc(5)).
 *
 * Files that outlive a crash carry this, so that a later process knows whether their writer still lives.
 */

import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { auditActor } from "./audit_event.ts";

/** What the kernel says of a process that no log-in has begun: (uid_t)-1. */
const UNSET_UID = 0xffff_ffff;
const NAMED_NAMESPACES = "/run/netns";

/** One process of one boot of this machine. */
export interface ProcessIdentity {
  /** Random name of this boot; empty when the system does not say. */
  readonly bootId: string;
  readonly pid: number;
  /** Start time in the system's own words, compared as text; empty when unknown. */
  readonly startTime: string;
}

/** The identity of this process. */
export function ownIdentity(): ProcessIdentity {
  return { bootId: bootId(), pid: process.pid, startTime: startTimeOf(process.pid) ?? "" };
}

/** Whether the very process that `identity` names still runs; a zombie does not. */
export function isRunning(identity: ProcessIdentity): boolean {
  return identity.bootId === bootId() && startTimeOf(identity.pid) === identity.startTime;
}

/** The name of this boot: Linux's boot_id, macOS's boot session. */
export function bootId(): string {
  if (process.platform === "linux") return readText("/proc/sys/kernel/random/boot_id").trim();
  return commandOutput(["sysctl", "-n", "kern.bootsessionuuid"]);
}

/** The inode number of this process's network namespace; empty where there are none. */
export function networkNamespace(): string {
  return namespaceInode("/proc/self/ns/net");
}

/**
 * Whether this process is in another network namespace than the machine's first process. Where the first process's is
 * not ours to see (under a unit of `service install`, which has not the right), namespaces with a name (ip-netns(8)) are
 * the private ones: a service must find the same answer as the commands that ask it.
 */
export function inPrivateNetworkNamespace(): boolean {
  const own = networkNamespace();
  const first = namespaceInode("/proc/1/ns/net");
  return first === "" ? namedNamespaces().includes(own) : first !== own;
}

function namedNamespaces(): readonly string[] {
  try {
    return readdirSync(NAMED_NAMESPACES).map((name) => String(statSync(join(NAMED_NAMESPACES, name)).ino));
  } catch {
    return []; // none, or one that went just now
  }
}

/** Who runs this process, for the audit log. */
export function currentActor(): string {
  return auditActor(process.getuid?.(), loginUid(), process.env);
}

/** The number under which the person logged in, which su(1) and sudo(8) leave as it is; null when nobody did. */
function loginUid(): number | null {
  const text = readText("/proc/self/loginuid").trim();
  return /^[0-9]+$/.test(text) && Number(text) !== UNSET_UID ? Number(text) : null;
}

/** Start time of a running process, or null: no such process, or a zombie. */
function startTimeOf(pid: number): string | null {
  if (process.platform !== "linux") return commandOutput(["ps", "-o", "lstart=", "-p", `${pid}`]) || null;
  const stat = readText(`/proc/${pid}/stat`);
  // The command name, field 2, is in parentheses and may hold any character: count from the last ")".
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state, startTime] = [fields[0], fields[19]];
  return startTime === undefined || state === "Z" || state === "X" ? null : startTime;
}

function namespaceInode(path: string): string {
  try {
    return /\[(\d+)\]/.exec(readlinkSync(path))?.[1] ?? "";
  } catch {
    return ""; // no such namespaces (macOS), or not ours to see
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // no such process, or no proc file system: the caller treats both as "unknown"
  }
}

function commandOutput(cmd: string[]): string {
  return Bun.spawnSync({ cmd, stderr: "ignore" }).stdout.toString().trim();
}
