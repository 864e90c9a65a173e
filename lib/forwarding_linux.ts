/**
 * IP forwarding on Linux while at least one server needs it (Documentation/networking/ip-sysctl.rst).
 *
 * The switches belong to the whole network namespace, so servers share them: each keeps a claim, a file that names the
 * claimant and the values from before the first of them. The last one to leave puts those back. A claim of a dead
 * process does not count, but its original values do.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { errnoOf, errorCode, messageOf } from "./caught.ts";
import { PrivilegeError, SystemError } from "./errors.ts";
import { withFileLock } from "./file_lock.ts";
import type { HostChange } from "./host_change.ts";
import type { Instance } from "./instance.ts";
import type { Log } from "./log.ts";
import { isRunning, networkNamespace, ownIdentity } from "./process_identity.ts";
import type { UndoStepOf } from "./undo_journal.ts";

/** Where claims are shared; the state directory stands in when it cannot be written. */
const SHARED_DIRECTORY = "/run/omail";
const LOCK_NAME = "lock";

const claimSchema = v.strictObject({
  owner: v.strictObject({ bootId: v.string(), pid: v.number(), startTime: v.string() }),
  switches: v.array(v.strictObject({ path: v.string(), from: v.string(), to: v.string() })),
  followers: v.array(v.strictObject({ path: v.string(), value: v.string() })),
});

type Claim = v.InferOutput<typeof claimSchema>;
type ForwardingStep = UndoStepOf<"forwarding">;

/** A sysctl that we set, in the order of setting, and its value before. */
export type Switch = Claim["switches"][number];
/** A sysctl that the kernel changes along with a switch and would not put back as it was. */
export type Follower = Claim["followers"][number];

/** A claim by its file name. */
interface NamedClaim {
  readonly name: string;
  readonly claim: Claim;
}

/**
 * Plans IPv4 and IPv6 forwarding.
 *
 * @param root where sysctls are; `/proc/sys` but in tests
 * @param shared where claims are
 */
export async function planForwarding(
  instance: Instance,
  log: Log,
  root = "/proc/sys",
  shared = SHARED_DIRECTORY,
): Promise<HostChange> {
  const directory = claimDirectory(instance, shared);
  const claim = `${instance.role}-${instance.tun}`;
  const { switches, followers } = await withClaims(directory, () =>
    originalValues(root, instance.tun, readClaims(directory)),
  );
  const step: ForwardingStep = { kind: "forwarding", directory, claim, switches, followers };
  return {
    name: "forwarding",
    key: JSON.stringify(step),
    undo: [step],
    onFailure: "throw",
    apply: () => withClaims(directory, () => takeForwarding(step, log)),
  };
}

function claimDirectory(instance: Instance, shared: string): string {
  const name = `forwarding-${networkNamespace()}`;
  try {
    mkdirSync(join(shared, name), { recursive: true, mode: 0o700 });
    return join(shared, name);
  } catch {
    // A read-only /run: then only servers with the same state directory know of each other.
    const directory = join(instance.stateDir, name);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return directory;
  }
}

/** Runs `section` while no other process reads or writes claims. The last claimant removes the directory. */
async function withClaims<T>(directory: string, section: () => T): Promise<T> {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return await withFileLock(join(directory, LOCK_NAME), section);
  } catch (error) {
    if (errorCode(error) === "") throw error;
    throw new SystemError(
      `Cannot share forwarding in "${directory}": ${messageOf(error)}`,
      "open",
      errnoOf(error),
    );
  }
}

/**
 * What to set and what it was before any claimant. Call under the lock.
 *
 * @returns switches whose value is right already are left out, unless another claimant set them
 */
function originalValues(
  root: string,
  tun: string,
  claims: readonly NamedClaim[],
): { switches: Switch[]; followers: Follower[] } {
  const earlier = claims.flatMap(({ claim }) => claim.switches);
  const switches = wantedSwitches(root, tun)
    .map(({ path, to }) => ({ path, from: originalOf(path, earlier), to }))
    .filter(({ from, to }) => from !== to);
  const known = new Map(
    claims.flatMap(({ claim }) => claim.followers).map((follower) => [follower.path, follower]),
  );
  for (const follower of claims.length === 0 ? presentFollowers(root, switches) : [])
    known.set(follower.path, follower);
  return { switches, followers: [...known.values()] };
}

function originalOf(path: string, earlier: readonly Switch[]): string {
  return earlier.find((other) => other.path === path)?.from ?? readSysctl(path);
}

/**
 * Forwarding of both families. With IPv6 forwarding the kernel stops taking router advertisements where accept_ra is 1
 * and drops the routes learned from them: 2 means "even when forwarding", and has to be there first.
 */
function wantedSwitches(root: string, tun: string): { path: string; to: string }[] {
  const ipv6 = join(root, "net/ipv6/conf");
  const advertised = interfaces(ipv6)
    .filter((name) => name !== tun && name !== "all" && name !== "default" && name !== "lo")
    .map((name) => join(ipv6, name, "accept_ra"))
    .filter((path) => ["1", "2"].includes(readSysctl(path)))
    .map((path) => ({ path, to: "2" }));
  const masters = [join(root, "net/ipv4/ip_forward"), join(ipv6, "all/forwarding")];
  return [
    ...advertised,
    ...masters.filter((path) => readSysctl(path) !== "").map((path) => ({ path, to: "1" })),
  ];
}

/**
 * Values that switching forwarding off again would lose (inet_forward_change in net/ipv4/devinet.c, and
 * addrconf_fixup_forwarding in net/ipv6/addrconf.c): all.accept_redirects becomes the opposite of ip_forward, and every
 * interface's own forwarding becomes what the master is.
 */
function presentFollowers(root: string, switches: readonly Switch[]): Follower[] {
  const paths = switches.flatMap(({ path }) => {
    const base = path.endsWith("ip_forward") ? join(root, "net/ipv4/conf") : join(root, "net/ipv6/conf");
    if (!path.endsWith("forward") && !path.endsWith("all/forwarding")) return [];
    const forwarding = interfaces(base)
      .filter((name) => name !== "all")
      .map((name) => ({ path: join(base, name, "forwarding"), usual: "0" }));
    const redirects = { path: join(base, "all/accept_redirects"), usual: "1" };
    return base.includes("ipv4") ? [...forwarding, redirects] : forwarding;
  });
  return paths
    .map(({ path, usual }) => ({ path, usual, value: readSysctl(path) }))
    .filter(({ value, usual }) => value !== "" && value !== usual)
    .map(({ path, value }) => ({ path, value }));
}

/** Writes our claim, sets the switches. Call under the lock. */
function takeForwarding(step: ForwardingStep, log: Log): void {
  const claim: Claim = { owner: ownIdentity(), switches: step.switches, followers: step.followers };
  for (const { name, claim: other } of readClaims(step.directory)) {
    // Its values live on in ours.
    if (!isRunning(other.owner)) rmSync(join(step.directory, name), { force: true });
  }
  writeFileSync(join(step.directory, step.claim), JSON.stringify(claim), { mode: 0o600 });
  for (const { path: sysctl, to } of step.switches) setSysctl(sysctl, to);
  log.debug("Forwarding is on", { changed: step.switches.length });
}

/** Whether a claim is still there: it lies in a folder that a reboot empties, as the switches are. */
export function isClaimed({ directory, claim }: ForwardingStep): boolean {
  return directory.startsWith(`${SHARED_DIRECTORY}/`) && existsSync(join(directory, claim));
}

/** Gives a claim up; the last one puts the switches back, those that still have our value. */
export async function undoForwarding(step: ForwardingStep, log: Log): Promise<void> {
  try {
    const last = await withClaims(step.directory, () => leaveForwarding(step, log));
    if (last) rmdirSync(step.directory);
  } catch (error) {
    if (["ENOTEMPTY", "ENOENT"].includes(errorCode(error))) return; // another server came, or left, in between
    log.warn(`Cannot put forwarding back: ${messageOf(error)}`);
  }
}

function leaveForwarding(step: ForwardingStep, log: Log): boolean {
  rmSync(join(step.directory, step.claim), { force: true });
  const others = readClaims(step.directory);
  if (others.some(({ claim }) => isRunning(claim.owner))) return false;
  // Dead claimants' values were taken over by us when we came, or are older than ours was: put theirs back as well.
  for (const { name } of others) rmSync(join(step.directory, name), { force: true });
  const switches = [...step.switches, ...others.flatMap(({ claim }) => claim.switches)];
  const followers = [...step.followers, ...others.flatMap(({ claim }) => claim.followers)];
  for (const { path, from, to } of switches.toReversed()) {
    if (readSysctl(path) === to) restoreSysctl(path, from, log);
  }
  if (switches.length > 0) for (const { path, value } of followers) restoreSysctl(path, value, log);
  return true;
}

function restoreSysctl(path: string, value: string, log: Log): void {
  const present = readSysctl(path);
  if (present === "" || present === value) return; // its interface is gone, or it came back by itself
  try {
    setSysctl(path, value);
  } catch (error) {
    log.warn(messageOf(error));
  }
}

function setSysctl(path: string, value: string): void {
  try {
    writeFileSync(path, value);
  } catch (error) {
    const message = `Cannot set "${path}" to "${value}": ${messageOf(error)}`;
    if (["EACCES", "EPERM", "EROFS"].includes(errorCode(error))) {
      throw new PrivilegeError(`${message}; run as root with /proc/sys writable, or set it before the start`);
    }
    throw new SystemError(message, "write", errnoOf(error));
  }
}

/** The value of a sysctl, or empty when there is none. */
function readSysctl(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return ""; // no such sysctl: a kernel without IPv6, or an interface that has gone
  }
}

function interfaces(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return []; // a kernel without this family
  }
}

/** All claims but the unreadable, which cannot count. */
function readClaims(directory: string): NamedClaim[] {
  return interfaces(directory)
    .filter((name) => name !== LOCK_NAME)
    .flatMap((name) => {
      const claim = parseClaim(join(directory, name));
      return claim === null ? [] : [{ name, claim }];
    });
}

function parseClaim(path: string): Claim | null {
  try {
    const result = v.safeParse(claimSchema, JSON.parse(readFileSync(path, "utf8")));
    return result.success ? result.output : null;
  } catch {
    return null; // removed meanwhile, or half written by a process that died
  }
}
