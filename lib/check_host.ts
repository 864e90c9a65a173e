/** What `check` of either program finds out about this machine by itself: privileges, TUN device, offloads. */

import { readFileSync } from "node:fs";
import { messageOf } from "./caught.ts";
import { type Finding, finding, notMeasured } from "./check_report.ts";
import { OmailError } from "./errors.ts";

/** Ports under this need CAP_NET_BIND_SERVICE (ip(7)). */
const FIRST_UNPRIVILEGED_PORT = 1024;

/** Runs a probe; what it cannot measure on this machine is said, and stops no other. */
export async function attempt(
  name: string,
  probe: () => Promise<readonly Finding[]>,
): Promise<readonly Finding[]> {
  try {
    return await probe();
  } catch (error) {
    if (!(error instanceof OmailError)) throw error;
    return [notMeasured(name, error.message)];
  }
}

/** @param port what is listened on; null for none */
export async function checkPrivileges(port: number | null): Promise<Finding> {
  const name = "privileges";
  const who = process.geteuid?.() === 0 ? "root" : `user ${process.geteuid?.()}`;
  if (process.platform !== "linux") {
    return process.geteuid?.() === 0
      ? finding(name, "ok", who)
      : finding(name, "failure", who, "run as root (sudo)");
  }
  const { CAP_NET_ADMIN, CAP_NET_BIND_SERVICE } = await import("./libc_linux.ts");
  const status = readFileSync("/proc/self/status", "utf8");
  const effective = BigInt(`0x${/^CapEff:\s+([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  const needed = new Map([["CAP_NET_ADMIN", CAP_NET_ADMIN]]);
  if (port !== null && port < FIRST_UNPRIVILEGED_PORT)
    needed.set("CAP_NET_BIND_SERVICE", CAP_NET_BIND_SERVICE);
  const missing = [...needed.keys()].filter(
    (capability) => (effective & (1n << BigInt(needed.get(capability) ?? 0))) === 0n,
  );
  return missing.length === 0
    ? finding(name, "ok", `${who} with ${[...needed.keys()].join(", ")}`)
    : finding(name, "failure", `${who} without ${missing.join(", ")}`, "run as root (sudo)");
}

/** Opens a device of a name that nobody uses, looks at it, and closes it again, which removes it. */
export async function checkTun(): Promise<readonly Finding[]> {
  if (process.platform !== "linux") {
    return [notMeasured("TUN device", "start the program: the system makes its utun device then")];
  }
  const { LinuxPacketDevice, openTunLinux } = await import("./tun_linux.ts");
  const scratch = `omchk${process.pid}`.slice(0, 15);
  try {
    const tun = openTunLinux(scratch);
    try {
      const { offload, udpOffload } = new LinuxPacketDevice(tun.fd, tun.offload);
      return [
        finding("TUN device", "ok", `/dev/net/tun opens, made and removed "${scratch}"`),
        offloadFinding(offload, udpOffload),
      ];
    } finally {
      tun.close();
    }
  } catch (error) {
    return [
      finding("TUN device", "failure", "cannot be opened", messageOf(error)),
      notMeasured("offloads", "mend the TUN device first"),
    ];
  }
}

function offloadFinding(offload: boolean, udpOffload: boolean): Finding {
  if (!offload) {
    return finding(
      "offloads",
      "warning",
      "none",
      "without virtio headers each packet costs a system call: expect a third of the speed or less; use a newer kernel",
    );
  }
  return udpOffload
    ? finding("offloads", "ok", "checksums, TCP and UDP super-packets up to 64 KB")
    : finding(
        "offloads",
        "ok",
        "checksums and TCP super-packets up to 64 KB, none for UDP",
        "Linux 6.2 or newer has those for UDP",
      );
}
