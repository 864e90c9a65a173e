/**
 * Gives away what a running program does not need (capabilities(7), prctl(2)).
 *
 * Kept is CAP_NET_ADMIN, which the way back at the end needs as much as the start: routes, rules, nftables, sysctls.
 * Capabilities belong to threads: this is called before the program starts any of its own, and theirs are made from
 * this one. Threads that the runtime had before keep theirs; a service manager that limits the process before it
 * starts (see `service_unit.ts`) is stronger, and this then finds nothing more to give away.
 */

import { readFileSync, statSync } from "node:fs";
import {
  CAP_CHOWN,
  CAP_DAC_OVERRIDE,
  CAP_NET_ADMIN,
  CAP_NET_BIND_SERVICE,
  CAPABILITY_VERSION_3,
  PR_CAPBSET_DROP,
  PR_SET_DUMPABLE,
  PR_SET_NO_NEW_PRIVS,
  privilegeCalls,
} from "./libc_linux.ts";
import { ptr } from "./libc.ts";

/** What a program needs besides CAP_NET_ADMIN. */
export interface PrivilegeNeeds {
  readonly role: "server" | "client";
  /** The port to listen on; null for none. */
  readonly port: number | null;
  readonly stateDir: string;
}

/** Ports under this need CAP_NET_BIND_SERVICE (ip(7)). */
const FIRST_UNPRIVILEGED_PORT = 1024;

/** Capabilities to keep, as numbers. */
export function capabilitiesToKeep(needs: PrivilegeNeeds, ownsStateDir: boolean): readonly number[] {
  return [
    CAP_NET_ADMIN,
    ...(needs.port !== null && needs.port < FIRST_UNPRIVILEGED_PORT ? [CAP_NET_BIND_SERVICE] : []),
    // a client puts resolv.conf back with the owner that it had
    ...(needs.role === "client" ? [CAP_CHOWN, CAP_DAC_OVERRIDE] : []),
    ...(needs.role === "server" && !ownsStateDir ? [CAP_DAC_OVERRIDE] : []),
  ];
}

/** The sets of one thread as 64-bit masks, from /proc/PID/status. */
export interface CapabilitySets {
  readonly inheritable: bigint;
  readonly permitted: bigint;
  readonly bounding: bigint;
}

/** Reads the text of a `status` file (proc(5)). */
export function readCapabilities(status: string): CapabilitySets {
  const set = (name: string): bigint =>
    BigInt(`0x${new RegExp(`^${name}:\\s+([0-9a-f]+)$`, "m").exec(status)?.[1] ?? "0"}`);
  return { inheritable: set("CapInh"), permitted: set("CapPrm"), bounding: set("CapBnd") };
}

/** The call's structures: struct __user_cap_header_struct and two of struct __user_cap_data_struct. */
interface CapsetBuffers {
  readonly header: Uint8Array<ArrayBuffer>;
  readonly data: Uint8Array<ArrayBuffer>;
}

/** Kept reachable for good: the kernel reads them by address. */
const buffers: CapsetBuffers = { header: new Uint8Array(8), data: new Uint8Array(24) };

/**
 * Drops every capability that is not needed, forbids to gain any, and keeps keys out of core dumps. What the system
 * does not let us give away stays, which a missing privilege makes likely and harmless.
 */
export function dropPrivileges(needs: PrivilegeNeeds): void {
  const { prctl, capset } = privilegeCalls;
  const kept = capabilitiesToKeep(needs, ownsDirectory(needs.stateDir));
  const mask = kept.reduce((sum, capability) => sum | (1n << BigInt(capability)), 0n);
  const { inheritable, permitted, bounding } = readCapabilities(readFileSync("/proc/self/status", "utf8"));
  for (let capability = 0; capability < 64; capability++) {
    const bit = 1n << BigInt(capability);
    // the bounding set holds for the commands that we start
    if ((bounding & bit) !== 0n && (mask & bit) === 0n) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
  fillCapset(permitted & mask, inheritable & mask);
  capset(ptr(buffers.header), ptr(buffers.data));
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

function fillCapset(permitted: bigint, inheritable: bigint): void {
  const data = new DataView(buffers.data.buffer);
  // pid 0 is this thread; the kernel reads its own byte order, which is little-endian on all machines that we build for
  new DataView(buffers.header.buffer).setUint32(0, CAPABILITY_VERSION_3, true);
  for (const half of [0, 1]) {
    const word = (set: bigint): number => Number((set >> BigInt(half * 32)) & 0xffffffffn);
    data.setUint32(half * 12, word(permitted), true);
    data.setUint32(half * 12 + 4, word(permitted), true);
    data.setUint32(half * 12 + 8, word(inheritable), true);
  }
}

function ownsDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.uid === process.geteuid?.();
}
