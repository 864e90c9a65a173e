/**
 * Runs a program on a kernel that refuses some system calls: `refuse.ts CALLS PROGRAM ARGUMENT...`.
 *
 * A seccomp(2) filter answers the calls with the error number that a kernel without the feature gives, and survives the
 * execve(2) that follows; the process ID stays. CALLS is one of the groups below.
 */

import { FFIType } from "bun:ffi";
import { errno, errnoName, openLibrary, ptr } from "../../../lib/libc.ts";
import { SOL_UDP, TUNGETFEATURES, TUNSETOFFLOAD, UDP_GRO, UDP_SEGMENT } from "../../../lib/libc_linux.ts";

interface Refusal {
  readonly call: "ioctl" | "setsockopt";
  /** Values of the arguments from the second on, their low 32 bits. */
  readonly values: readonly number[];
  readonly error: number;
}

const EINVAL = 22;
const ENOPROTOOPT = 92;

const GROUPS: Readonly<Record<string, readonly Refusal[]>> = {
  "tun-offloads": [{ call: "ioctl", values: [TUNSETOFFLOAD], error: EINVAL }],
  "tun-features": [{ call: "ioctl", values: [TUNGETFEATURES], error: EINVAL }],
  // before Linux 4.18
  "udp-offloads": [UDP_SEGMENT, UDP_GRO].map((name) => ({
    call: "setsockopt",
    values: [SOL_UDP, name],
    error: ENOPROTOOPT,
  })),
};

/** System call numbers and AUDIT_ARCH values (linux/audit.h). */
const MACHINES: Readonly<Record<string, { arch: number; ioctl: number; setsockopt: number }>> = {
  x64: { arch: 0xc000003e, ioctl: 16, setsockopt: 54 },
  arm64: { arch: 0xc00000b7, ioctl: 29, setsockopt: 208 },
};

// struct seccomp_data (linux/seccomp.h)
const NUMBER_AT = 0;
const ARCH_AT = 4;
const SECOND_ARGUMENT_AT = 24;
const ARGUMENT_BYTES = 8;

// classic BPF (linux/bpf_common.h) and answers of a filter (linux/seccomp.h)
const LOAD = 0x20;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;
const ALLOW = 0x7fff0000;
const ANSWER_ERROR = 0x00050000;

const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;

/** struct sock_filter: code, jump if true, jump if false, k. */
type Instruction = readonly [number, number, number, number];

/** Instructions that answer one refusal, or go on behind themselves. */
function refusal({ call, values, error }: Refusal, machine: (typeof MACHINES)[string]): Instruction[] {
  const conditions = [
    [NUMBER_AT, machine[call]],
    ...values.map((value, index) => [SECOND_ARGUMENT_AT + index * ARGUMENT_BYTES, value]),
  ];
  const length = conditions.length * 2 + 1;
  const tests = conditions.flatMap(([at, value], index): Instruction[] => [
    [LOAD, 0, 0, at!],
    [JUMP_IF_EQUAL, 0, length - (index * 2 + 2), value!],
  ]);
  return [...tests, [RETURN, 0, 0, ANSWER_ERROR | error]];
}

function filterFor(refusals: readonly Refusal[]): Uint8Array<ArrayBuffer> {
  const machine = MACHINES[process.arch];
  if (machine === undefined) throw new Error(`No system call numbers for "${process.arch}"`);
  const instructions: Instruction[] = [
    [LOAD, 0, 0, ARCH_AT],
    [JUMP_IF_EQUAL, 1, 0, machine.arch],
    [RETURN, 0, 0, ALLOW],
    ...refusals.flatMap((refused) => refusal(refused, machine)),
    [RETURN, 0, 0, ALLOW],
  ];
  const bytes = new DataView(new ArrayBuffer(instructions.length * 8));
  instructions.forEach(([code, ifTrue, ifFalse, k], index) => {
    bytes.setUint16(index * 8, code, true);
    bytes.setUint8(index * 8 + 2, ifTrue);
    bytes.setUint8(index * 8 + 3, ifFalse);
    bytes.setUint32(index * 8 + 4, k, true);
  });
  return new Uint8Array(bytes.buffer);
}

const { prctl, execve } = openLibrary({
  prctl: {
    args: [FFIType.i32, FFIType.u64_fast, FFIType.ptr, FFIType.u64_fast, FFIType.u64_fast],
    returns: FFIType.i32,
  },
  execve: { args: [FFIType.ptr, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
});

/** What the kernel reads by address, kept reachable. */
const kept: object[] = [];

function keep<Value extends object>(value: Value): Value {
  kept.push(value);
  return value;
}

/** A null-terminated array of C strings. */
function stringArray(texts: readonly string[]): BigUint64Array {
  const addresses = texts.map((text) => BigInt(ptr(keep(Buffer.from(`${text}\0`)))));
  return keep(BigUint64Array.of(...addresses, 0n));
}

const [group, ...argv] = process.argv.slice(2);
const refusals = GROUPS[group ?? ""];
if (refusals === undefined || argv[0] === undefined)
  throw new Error(`Usage: refuse.ts ${Object.keys(GROUPS).join("|")} PROGRAM ARGUMENT...`);

const filter = keep(filterFor(refusals));
// struct sock_fprog: instructions, their address
const program = keep(BigUint64Array.of(BigInt(filter.length / 8), BigInt(ptr(filter))));
if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ptr(program), 0, 0) !== 0)
  throw new Error(`Cannot install the filter: ${errnoName(errno())}`);
const environment = Object.entries(process.env).map(([name, value]) => `${name}=${value}`);
execve(ptr(keep(Buffer.from(`${argv[0]}\0`))), ptr(stringArray(argv)), ptr(stringArray(environment)));
throw new Error(`Cannot run "${argv[0]}": ${errnoName(errno())}`);
