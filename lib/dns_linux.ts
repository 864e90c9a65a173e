/**
 * Points a Linux client's name resolution at the tunnel's DNS servers, by whoever keeps `/etc/resolv.conf`:
 * systemd-resolved (resolvectl(1)), resolvconf(8), or nobody, in which case the file itself is replaced (resolv.conf(5)).
 */

import {
  chmodSync,
  chownSync,
  lstatSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { existsSync } from "node:fs";
import { errnoOf, errorCode, messageOf } from "./caught.ts";
import { expectCommand, type RunCommand } from "./command.ts";
import { SystemError } from "./errors.ts";
import type { HostChange } from "./host_change.ts";
import type { Log } from "./log.ts";
import type { FileState, UndoStepOf } from "./undo_journal.ts";

/** glibc reads no more name servers (MAXNS in resolv.h). */
const MAX_NAME_SERVERS = 3;
const MARK = "# Written by OMail VPN for";

/** What the choice of a method depends on; handed in by tests. */
export interface DnsHost {
  readonly resolvConf: string;
  readonly run: RunCommand;
  /** Whether a command is installed. */
  readonly has: (command: string) => boolean;
}

/** This machine. */
export function systemDnsHost(run: RunCommand): DnsHost {
  return {
    resolvConf: "/etc/resolv.conf",
    run,
    has: (command) => Bun.which(command, { PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` }) !== null,
  };
}

/** Plans DNS; null when there is nothing to do or another tunnel has it. A failure is a warning. */
export async function planDns(
  tun: string,
  servers: readonly string[],
  host: DnsHost,
  log: Log,
): Promise<HostChange | null> {
  if (servers.length === 0) return null;
  const present = readText(host.resolvConf);
  if (await usesResolved(tun, present, host)) return resolvedChange(tun, servers, host.run);
  if (host.has("resolvconf") && /resolvconf/i.test(present)) return resolvconfChange(tun, servers, host.run);
  const other = new RegExp(`^${MARK} (\\S+);`, "m").exec(present)?.[1];
  if (other !== undefined) {
    log.warn(
      `DNS stays as it is: the tunnel "${other}" has it; if that one has ended: omail-client down --tun ${other}`,
    );
    return null;
  }
  if (servers.length > MAX_NAME_SERVERS) log.warn(`Only the first ${MAX_NAME_SERVERS} DNS servers are used`);
  return fileChange(host.resolvConf, resolvConfText(tun, servers, present));
}

/** systemd-resolved answers at its stub address, and knows our interface (it does not in another namespace). */
async function usesResolved(tun: string, present: string, host: DnsHost): Promise<boolean> {
  if (!/^nameserver\s+127\.0\.0\.5[34]\b/m.test(present) || !host.has("resolvectl")) return false;
  return (await host.run(["resolvectl", "dns", tun])).status === 0;
}

/** Settings of a link vanish with the link, so there is nothing to undo. `~.` means "all names" (resolved docs). */
function resolvedChange(tun: string, servers: readonly string[], run: RunCommand): HostChange {
  return {
    name: "DNS",
    undo: [],
    onFailure: "warn",
    async apply() {
      const purpose = "Cannot set DNS with resolvectl";
      await expectCommand(run, purpose, ["resolvectl", "dns", tun, ...servers]);
      await expectCommand(run, purpose, ["resolvectl", "domain", tun, "~."]);
      await expectCommand(run, purpose, ["resolvectl", "default-route", tun, "true"]);
    },
  };
}

function resolvconfChange(tun: string, servers: readonly string[], run: RunCommand): HostChange {
  // Debian's resolvconf orders records by name, and "tun." sorts in front of Ethernet.
  const record = existsSync("/etc/resolvconf/interface-order") ? `tun.${tun}` : tun;
  const text = servers.map((server) => `nameserver ${server}\n`).join("");
  return {
    name: "DNS",
    undo: [{ kind: "resolvconf", record }],
    onFailure: "warn",
    async apply() {
      // -m 0: first of all; -x: nobody else's (openresolv; Debian's ignores both). As wg-quick(8) does.
      const argv = ["resolvconf", "-a", record, "-m", "0", "-x"];
      await expectCommand(run, "Cannot set DNS with resolvconf", argv, text);
    },
  };
}

/** The resolv.conf of a tunnel. `options` lines stay; `search` does not: local names are not for the tunnel's servers. */
export function resolvConfText(tun: string, servers: readonly string[], present: string): string {
  const options = present.split("\n").filter((line) => /^options\s/.test(line));
  return [
    `${MARK} ${tun}; the original comes back when the tunnel ends.`,
    ...servers.slice(0, MAX_NAME_SERVERS).map((server) => `nameserver ${server}`),
    ...options,
    "",
  ].join("\n");
}

function fileChange(path: string, text: string): HostChange {
  const previous = readState(path);
  return {
    name: "DNS",
    undo: [{ kind: "resolv-conf", path, previous, written: text }],
    onFailure: "warn",
    async apply() {
      try {
        replaceFile(path, Buffer.from(text), { mode: 0o644, uid: 0, gid: 0 });
      } catch (error) {
        throw new SystemError(`Cannot write "${path}": ${messageOf(error)}`, "write", errnoOf(error));
      }
    },
  };
}

/** Removes our record from resolvconf(8). */
export async function undoResolvconf(record: string, run: RunCommand, log: Log): Promise<void> {
  try {
    await expectCommand(run, `Cannot remove DNS record "${record}"`, ["resolvconf", "-f", "-d", record]);
  } catch (error) {
    log.warn(messageOf(error));
  }
}

/** Puts a resolv.conf back exactly, unless somebody else has written to it since. */
export function undoResolvConf(step: UndoStepOf<"resolv-conf">, log: Log): void {
  const { path, previous, written } = step;
  try {
    if (readText(path) !== written) {
      log.debug("Name resolution was changed by somebody else, or is back already", { path });
      return;
    }
    restoreState(path, previous);
  } catch (error) {
    log.warn(`Cannot put "${path}" back: ${messageOf(error)}`);
  }
}

function restoreState(path: string, previous: FileState): void {
  if (previous.type === "file") return replaceFile(path, Buffer.from(previous.content, "base64"), previous);
  if (previous.type === "absent") return rmSync(path, { force: true });
  const temporary = temporaryName(path);
  symlinkSync(previous.target, temporary);
  renameSync(temporary, path);
}

function readState(path: string): FileState {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return { type: "absent" };
  if (stat.isSymbolicLink()) return { type: "symlink", target: readlinkSync(path) };
  const content = readFileSync(path).toString("base64");
  return { type: "file", content, mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid };
}

interface Ownership {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Replaces a file in one step, by rename. Where that cannot be (the file is a mount point, as in containers and
 * `ip netns exec`, or its folder is read-only) the text is written in place.
 */
function replaceFile(path: string, content: Uint8Array, owner: Ownership): void {
  const temporary = temporaryName(path);
  try {
    writeFileSync(temporary, content, { mode: 0o600, flag: "wx", flush: true });
    chownSync(temporary, owner.uid, owner.gid);
    chmodSync(temporary, owner.mode);
    renameSync(temporary, path);
  } catch (error) {
    removeIfThere(temporary);
    if (!["EBUSY", "EROFS", "EACCES", "EPERM", "EXDEV"].includes(errorCode(error))) throw error;
    writeFileSync(path, content, { flush: true });
    if ((statSync(path).mode & 0o7777) !== owner.mode) chmodSync(path, owner.mode);
  }
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!["ENOENT", "EROFS"].includes(errorCode(error))) throw error;
  }
}

function temporaryName(path: string): string {
  return `${path}.omail-${process.pid}`;
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return "";
    throw error;
  }
}
