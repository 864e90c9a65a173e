/**
 * The kind of machine that the programs under test find: chosen by the test, else by `OMAIL_TEST_VARIANT`.
 *
 * | variant    | what is different                                                                                     |
 * | ---------- | ----------------------------------------------------------------------------------------------------- |
 * | default    | nothing                                                                                               |
 * | sync       | both programs get `--engine sync`                                                                     |
 * | no-offload | the kernel refuses every TUNSETOFFLOAD: virtio headers, but neither checksums nor super-packets        |
 * | plain-tun  | the client's kernel knows no virtio headers; the server's does, and cuts up for it                    |
 * | no-gso     | the sockets refuse to segment and to coalesce                                                         |
 *
 * Refused system calls are the kernel's own answers (`programs/refuse.ts`). That a socket refuses UDP_SEGMENT in a send
 * is brought about on the program's socket from outside: with SO_NO_CHECK the kernel answers EINVAL
 * (udp_send_skb in net/ipv4/udp.c), also in the middle of a run.
 */

import type { BackgroundProgram } from "./command.ts";
import { helperPath } from "./network.ts";
import { refuseSegmentation } from "./socket_of.ts";

export const VARIANTS = ["default", "sync", "no-offload", "plain-tun", "no-gso"] as const;
export type Variant = (typeof VARIANTS)[number];

/** The variant of this run, for programs whose test does not choose. */
export const RUN_VARIANT: Variant = readVariant(process.env["OMAIL_TEST_VARIANT"]);

function readVariant(text: string | undefined): Variant {
  const found = VARIANTS.find((name) => name === (text ?? "default"));
  if (found === undefined)
    throw new Error(`Cannot use OMAIL_TEST_VARIANT="${text}": expected one of ${VARIANTS.join(", ")}`);
  return found;
}

/** A command line that runs `argv` with a group of system calls refused; the process stays the same. */
function withRefused(
  calls: "tun-offloads" | "tun-features" | "udp-offloads",
  argv: readonly string[],
): string[] {
  return [process.execPath, helperPath("refuse"), calls, ...argv];
}

/** The command line of a program under test. */
export function variantCommand(
  variant: Variant,
  role: "server" | "client",
  argv: readonly string[],
): readonly string[] {
  switch (variant) {
    case "default":
      return argv;
    case "sync":
      return argv.includes("--engine") ? argv : [...argv, "--engine", "sync"];
    case "no-offload":
      return withRefused("tun-offloads", argv);
    case "plain-tun":
      return role === "client" ? withRefused("tun-features", argv) : argv;
    case "no-gso":
      return withRefused("udp-offloads", argv);
  }
}

/** What a variant does to a program that is ready. */
export async function variantReady(variant: Variant, program: BackgroundProgram): Promise<void> {
  if (variant === "no-gso") await refuseSegmentation(program.pid);
}
