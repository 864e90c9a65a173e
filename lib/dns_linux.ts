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
import { dirname, resolve } from "node:path";
import { errnoOf, errorCode, messageOf } from "./caught.ts";
import { expectCommand, type RunCommand } from "./command.ts";
import { SystemError } from "./errors.ts";
import type { HostChange } from "./host_change.ts";
import type { Log } from "./log.ts";
import type { FileState, UndoStep, UndoStepOf } from "./undo_journal.ts";

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

/** What a tunnel asks of this machine's name resolution. */
export interface DnsRequest {
  readonly tun: string;
  readonly servers: readonly string[];
  readonly searchDomains: readonly string[];
  /** All names are for the tunnel's servers. */
  readonly fullTunnel: boolean;
}

/** With a split tunnel that names domains, only their names are for the tunnel's servers. */
function isSplit({ fullTunnel, searchDomains }: DnsRequest): boolean {
  return !fullTunnel && searchDomains.length > 0;
}

/**
 * Plans DNS; null when there is nothing to do or another tunnel has it. A failure is a warning.
 *
 * @param standing steps of the DNS change that this one takes the place of
 */
export async function planDns(
  request: DnsRequest,
  host: DnsHost,
  standing: readonly UndoStep[],
  log: Log,
): Promise<HostChange | null> {
  const { tun, servers } = request;
  if (servers.length === 0) return null;
  const found = findOriginal(host.resolvConf, standing);
  if (await usesResolved(tun, found.text, host)) return resolvedChange(request, host.run);
  if (host.has("resolvconf") && /resolvconf/i.test(found.text)) return resolvconfChange(request, host.run);
  const other = new RegExp(`^${MARK} (\\S+);`, "m").exec(found.text)?.[1];
  if (other !== undefined) {
    log.warn(
      `DNS stays as it is: the tunnel "${other}" has it; if that one has ended: omail-client down --tun ${other}`,
    );
    return null;
  }
  if (standing.length === 0) warnOfLimits(request, log);
  return fileChange(host.resolvConf, resolvConfText(request, found.text), found.state);
}

function warnOfLimits(request: DnsRequest, log: Log): void {
  if (request.servers.length > MAX_NAME_SERVERS)
    log.warn(`Only the first ${MAX_NAME_SERVERS} DNS servers are used`);
  if (isSplit(request)) {
    const domains = request.searchDomains.join(",");
    log.info("A plain resolv.conf cannot ask by domain: the tunnel's DNS servers are asked first", {
      domains,
    });
  }
}

/** The resolv.conf as it was before us: the file itself, unless it still has what we wrote. */
function findOriginal(path: string, standing: readonly UndoStep[]): { text: string; state: FileState } {
  const text = readText(path);
  const ours = standing.find((step) => step.kind === "resolv-conf");
  if (ours === undefined || text !== ours.written) return { text, state: readState(path) };
  const { previous } = ours;
  if (previous.type === "file")
    return { text: Buffer.from(previous.content, "base64").toString(), state: previous };
  const target = previous.type === "symlink" ? readText(resolve(dirname(path), previous.target)) : "";
  return { text: target, state: previous };
}

/** systemd-resolved answers at its stub address, and knows our interface (it does not in another namespace). */
async function usesResolved(tun: string, present: string, host: DnsHost): Promise<boolean> {
  if (!/^nameserver\s+127\.0\.0\.5[34]\b/m.test(present) || !host.has("resolvectl")) return false;
  return (await host.run(["resolvectl", "dns", tun])).status === 0;
}

/** `~.` means "all names", another domain its own names and the completion of short ones (resolved docs). */
function resolvedChange(request: DnsRequest, run: RunCommand): HostChange {
  const { tun, servers, searchDomains } = request;
  const split = isSplit(request);
  const commands = [
    ["resolvectl", "dns", tun, ...servers],
    ["resolvectl", "domain", tun, ...(split ? [] : ["~."]), ...searchDomains],
    ["resolvectl", "default-route", tun, `${!split}`],
  ];
  return {
    name: "DNS",
    key: JSON.stringify(commands),
    undo: [{ kind: "resolved", tun }],
    onFailure: "warn",
    async apply() {
      for (const argv of commands) await expectCommand(run, "Cannot set DNS with resolvectl", argv);
    },
  };
}

function resolvconfChange(request: DnsRequest, run: RunCommand): HostChange {
  const { tun, servers, searchDomains } = request;
  // Debian's resolvconf orders records by name, and "tun." sorts in front of Ethernet.
  const record = existsSync("/etc/resolvconf/interface-order") ? `tun.${tun}` : tun;
  const search = searchDomains.length === 0 ? "" : `search ${searchDomains.join(" ")}\n`;
  const text = search + servers.map((server) => `nameserver ${server}\n`).join("");
  // -m 0: first of all; -x: nobody else's (openresolv; Debian's ignores both). As wg-quick(8) does.
  const argv = ["resolvconf", "-a", record, "-m", "0", ...(isSplit(request) ? [] : ["-x"])];
  return {
    name: "DNS",
    key: JSON.stringify([argv, text]),
    undo: [{ kind: "resolvconf", record }],
    onFailure: "warn",
    async apply() {
      await expectCommand(run, "Cannot set DNS with resolvconf", argv, text);
    },
  };
}

/**
 * The resolv.conf of a tunnel. `options` lines stay. The machine's own servers and `search` stay only beside a split
 * tunnel that names its domains, and behind the tunnel's: other local names are not for the tunnel's servers.
 */
export function resolvConfText(request: DnsRequest, present: string): string {
  const lines = present.split("\n");
  const options = lines.filter((line) => /^options\s/.test(line));
  const own = isSplit(request) ? lines : [];
  const words = (keyword: RegExp): string[] =>
    own.flatMap((line) => (keyword.test(line) ? line.trim().split(/\s+/).slice(1) : []));
  const servers = [...new Set([...request.servers, ...words(/^nameserver\s/)])].slice(0, MAX_NAME_SERVERS);
  const search = [...new Set([...request.searchDomains, ...words(/^(search|domain)\s/)])];
  return [
    `${MARK} ${request.tun}; the original comes back when the tunnel ends.`,
    ...(search.length === 0 ? [] : [`search ${search.join(" ")}`]),
    ...servers.map((server) => `nameserver ${server}`),
    ...options,
    "",
  ].join("\n");
}

function fileChange(path: string, text: string, previous: FileState): HostChange {
  return {
    name: "DNS",
    key: JSON.stringify([text, previous]),
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

/** Takes our settings of an interface back from systemd-resolved; with the interface they are gone already. */
export async function undoResolved(tun: string, run: RunCommand, log: Log): Promise<void> {
  try {
    await expectCommand(run, "Cannot revert DNS with resolvectl", ["resolvectl", "revert", tun]);
  } catch (error) {
    log.debug(messageOf(error));
  }
}

/** Removes our record from resolvconf(8). */
export async function undoResolvconf(record: string, run: RunCommand, log: Log): Promise<void> {
  try {
    // -f: an absent record is no failure (openresolv); Debian's ignores it here, and refuses it in front of -d
    await expectCommand(run, `Cannot remove DNS record "${record}"`, ["resolvconf", "-d", record, "-f"]);
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
