/**
 * systemd units for both programs (systemd.service(5), systemd.exec(5)), hardened as far as a TUN device, nftables and a
 * runtime that compiles while it runs allow.
 *
 * What stays open, and why: CAP_NET_ADMIN (routes, rules, nftables, the TUN device); /proc/sys (forwarding); memory that
 * is written and then executed (the just-in-time compiler). Pure: text only.
 */

import { UsageError } from "./errors.ts";

export interface UnitOptions {
  readonly role: "server" | "client";
  /** Absolute path of the executable. */
  readonly executable: string;
  /** Absolute path of the TOML file. */
  readonly config: string;
  readonly tun: string;
  /** Absolute path. */
  readonly stateDir: string;
}

/** First line of our units; a file without it is not ours to replace or remove. */
export const UNIT_MARK = "# Written by `service install`; `service remove` removes it.";

/** Exit statuses after which another try cannot help: usage, refused, privilege. */
const FINAL_STATUSES = "2 4 5";

/** The unit's file name: that of the program, with the interface when it is not the usual one. */
export function unitName(role: UnitOptions["role"], tun: string, usualTun: string): string {
  return tun === usualTun ? `omail-${role}.service` : `omail-${role}-${tun}.service`;
}

/** The text of a unit. @throws {UsageError} for a path that a unit file cannot name */
export function unitText(options: UnitOptions): string {
  const { role, executable, config, tun, stateDir } = options;
  for (const path of [executable, config, stateDir]) checkPath(path);
  const flags = `--config ${config} --tun ${tun} --state-dir ${stateDir}`;
  const command = role === "server" ? "run" : "up";
  const lines = [
    UNIT_MARK,
    "[Unit]",
    `Description=OMail VPN ${role} (${tun})`,
    "After=network-online.target nss-lookup.target",
    "Wants=network-online.target",
    "",
    "[Service]",
    "Type=exec",
    `ExecStart=${executable} ${command} ${flags}`,
    ...(role === "server" ? ["ExecReload=/bin/kill -HUP $MAINPID"] : []),
    "# after a crash: puts routes, rules, firewall and DNS back",
    `ExecStopPost=${executable} down ${flags}`,
    "Restart=on-failure",
    "RestartSec=1",
    `RestartPreventExitStatus=${FINAL_STATUSES}`,
    "TimeoutStopSec=30",
    "LimitNOFILE=65536",
    "LimitCORE=0",
    "",
    ...hardening(role, stateDir),
    "",
    "[Install]",
    "WantedBy=multi-user.target",
    "",
  ];
  return lines.join("\n");
}

function hardening(role: UnitOptions["role"], stateDir: string): readonly string[] {
  const capabilities =
    role === "server" ? "CAP_NET_ADMIN CAP_NET_BIND_SERVICE" : "CAP_NET_ADMIN CAP_CHOWN CAP_DAC_OVERRIDE";
  // a client replaces /etc/resolv.conf
  const writable =
    role === "server" ? `${stateDir} /run/omail` : `${stateDir} /run/omail -/etc -/run/resolvconf`;
  return [
    `CapabilityBoundingSet=${capabilities}`,
    "NoNewPrivileges=yes",
    "UMask=0077",
    "RuntimeDirectory=omail",
    "RuntimeDirectoryMode=0700",
    "RuntimeDirectoryPreserve=yes",
    ...(stateDir === "/var/lib/omail" ? ["StateDirectory=omail", "StateDirectoryMode=0700"] : []),
    "ProtectSystem=strict",
    `ReadWritePaths=${writable}`,
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "DevicePolicy=closed",
    "DeviceAllow=/dev/net/tun rw",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "RemoveIPC=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    // a client gives resolv.conf back to its owner
    ...(role === "client" ? ["SystemCallFilter=@chown"] : []),
    "SystemCallErrorNumber=EPERM",
  ];
}

/** Unit files split at spaces and expand `%` and `$`. */
function checkPath(path: string): void {
  if (/^\/[A-Za-z0-9_./@+-]*$/.test(path)) return;
  throw new UsageError(
    `Cannot use "${path}" in a systemd unit: expected an absolute path of letters, digits and "_", ".", "/", "@", "+", "-"`,
  );
}
