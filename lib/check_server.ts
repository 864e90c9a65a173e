/**
 * `omail-server check`: what keeps, or would keep, this server from carrying its clients' traffic.
 *
 * Nothing is changed on the machine: ports are bound for a moment and given back, the NAT table is only checked by the
 * kernel (`nft --check`). Beside a running server its own ports and tables are what is looked for.
 */

import { X509Certificate } from "node:crypto";
import { createSocket } from "node:dgram";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { formatHostPort, type HostPort, parseHostPort } from "./address.ts";
import { parseServerStatus } from "./admin_message.ts";
import { errorCode, messageOf } from "./caught.ts";
import { attempt, checkPrivileges, checkTun } from "./check_host.ts";
import { parseListener } from "./check_parse.ts";
import { type CheckReport, type Finding, finding, makeReport, notMeasured } from "./check_report.ts";
import type { RunCommand } from "./command.ts";
import type { ServerConfig } from "./config_server.ts";
import { requestStatus } from "./control_socket.ts";
import { NotRunningError, UsageError } from "./errors.ts";
import { droppingChains, natScript, natTableName } from "./firewall_nft.ts";
import type { Instance } from "./instance.ts";
import { DEFAULT_PORT } from "./limits.ts";
import { loadCertificate } from "./server_identity.ts";
import type { ServerStatus } from "./status.ts";

/** What is checked. */
export interface ServerCheckOptions {
  readonly instance: Instance;
  readonly config: ServerConfig;
  /** Where to listen; null: where the running server does, else as configured. */
  readonly listen: HostPort | null;
  readonly run: RunCommand;
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
}

const DAY_MS = 86_400_000;
/** Time in which an operator can still renew a certificate without haste. */
const RENEW_DAYS = 30;
const FORWARDING: readonly (readonly [string, string])[] = [
  ["IPv4", "/proc/sys/net/ipv4/ip_forward"],
  ["IPv6", "/proc/sys/net/ipv6/conf/all/forwarding"],
];

/** Looks at everything; takes about a second. */
export async function checkServer(options: ServerCheckOptions): Promise<CheckReport> {
  const { config, instance } = options;
  const status = await findStatus(instance);
  const running = status === null ? null : parseHostPort(status.address, DEFAULT_PORT);
  const listen = options.listen ?? running ?? config.listen;
  const own = running !== null && running.port === listen.port;
  const nat = await attempt("NAT", () => checkNat(status, options));
  return makeReport([
    await checkPrivileges(listen.port),
    ...(await checkTun()),
    serverFinding(status, instance),
    checkForwarding(status, config.nat || nat.some(({ level }) => level === "ok" && status !== null)),
    ...nat,
    ...(await attempt("firewall", () => checkFirewall(listen.port, options))),
    ...(await checkPorts(listen, own, options)),
    await checkCertificate(options),
  ]);
}

/** @returns null when no server runs */
async function findStatus(instance: Instance): Promise<ServerStatus | null> {
  try {
    return parseServerStatus(await requestStatus(instance));
  } catch (error) {
    if (error instanceof NotRunningError) return null;
    throw error;
  }
}

function serverFinding(status: ServerStatus | null, { tun }: Instance): Finding {
  return status === null
    ? notMeasured("server", "start it with omail-server", `no server runs with interface "${tun}"`)
    : finding(
        "server",
        "ok",
        `runs on ${status.address}, sessions: ${status.sessions.length}`,
        "",
        status.sessions.length,
      );
}

/** @param needed clients shall reach other networks */
function checkForwarding(status: ServerStatus | null, needed: boolean): Finding {
  const name = "forwarding";
  const found = FORWARDING.map(([family, path]) => ({ family, on: readText(path)?.trim() }));
  const off = found.filter(({ on }) => on !== "1").map(({ family }) => family);
  const figure = found
    .map(({ family, on }) => `${family} ${on === undefined ? "none" : on === "1" ? "on" : "off"}`)
    .join(", ");
  if (off.length === 0) return finding(name, "ok", figure);
  if (!needed) {
    return finding(
      name,
      "warning",
      figure,
      "clients reach this machine only; --nat switches it on and lets them out",
    );
  }
  if (status === null) return finding(name, "ok", `${figure}; --nat switches it on at the start`);
  const advice =
    "somebody switched it off again: sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1";
  return finding(name, "failure", figure, advice);
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined; // a kernel without this family
  }
}

/** Beside a running server its table; else whether this kernel would take it. */
async function checkNat(
  status: ServerStatus | null,
  { config, run }: ServerCheckOptions,
): Promise<readonly Finding[]> {
  const name = "NAT";
  const table = natTableName(config.tun);
  const { status: exists } = await run(["nft", "list", "table", "inet", table]);
  if (exists === 0) return [finding(name, "ok", `nft table inet ${table} masquerades`)];
  if (status !== null && config.nat) {
    return [
      finding(
        name,
        "failure",
        `nft table inet ${table} is gone`,
        "another program removed it: restart the server",
      ),
    ];
  }
  if (status !== null) {
    const advice = "clients reach only what knows a way back to them; --nat gives them the server's address";
    return [finding(name, "warning", "the running server has none", advice)];
  }
  const check = await run(["nft", "--check", "-f", "-"], natScript(config.tun));
  if (check.status === 0) {
    return [finding(name, "ok", `nft and the kernel would take it${config.nat ? "" : " (with --nat)"}`)];
  }
  const reason = check.stderr.trim().split("\n")[0] ?? "";
  const advice = "run as root, with a kernel that has nf_tables and nft_masq";
  return [finding(name, config.nat ? "failure" : "warning", `nft refuses it: ${reason}`, advice)];
}

/** Chains of others that drop by default may be in the way: whether they let us through cannot be told from outside. */
async function checkFirewall(port: number, { config, run }: ServerCheckOptions): Promise<readonly Finding[]> {
  const name = "firewall";
  const { status, stdout, stderr } = await run(["nft", "-j", "list", "chains"]);
  if (status !== 0) return [notMeasured(name, "run as root", `nft cannot list chains: ${stderr.trim()}`)];
  const chains = (hook: "forward" | "input") =>
    droppingChains(stdout, hook).map(({ family, table, name }) => `${family} ${table} ${name}`);
  const input = chains("input").map((chain) =>
    finding(
      name,
      "warning",
      `${chain} drops what comes in by default`,
      `if no client connects: nft insert rule ${chain} tcp dport ${port} accept, and the same with udp`,
    ),
  );
  const forward = chains("forward").map((chain) =>
    finding(
      name,
      "warning",
      `${chain} drops what is forwarded by default`,
      `if clients reach nothing: nft insert rule ${chain} iifname "${config.tun}" accept, and the same with oifname`,
    ),
  );
  const found = [...input, ...forward];
  return found.length > 0 ? found : [finding(name, "ok", "no nft chain drops by default")];
}

/** @param own the running server is meant to have them */
async function checkPorts(
  listen: HostPort,
  own: boolean,
  { run }: ServerCheckOptions,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const [protocol, bind, flag] of [
    ["TCP", bindTcp, "-t"],
    ["UDP", bindUdp, "-u"],
  ] as const) {
    const name = `${protocol} port`;
    const at = formatHostPort(listen);
    const error = await bind(listen);
    if (error === "EADDRINUSE") {
      const user = await listener(flag, listen.port, run);
      findings.push(
        own
          ? finding(name, "ok", `${at}: this server listens`, "", listen.port)
          : finding(
              name,
              "failure",
              `${at}: in use by ${user}`,
              "end that program, or choose another --address",
              listen.port,
            ),
      );
    } else if (own) {
      findings.push(
        finding(name, "failure", `${at}: the running server does not listen`, "restart it", listen.port),
      );
    } else if (error !== null) {
      findings.push(finding(name, "failure", `${at}: ${error}`, portAdvice(error), listen.port));
    } else findings.push(finding(name, "ok", `${at}: free`, "", listen.port));
  }
  return findings;
}

function portAdvice(error: string): string {
  return error === "EACCES"
    ? "ports under 1024 need root or CAP_NET_BIND_SERVICE"
    : "expected an address of this machine in --address";
}

/** Who has the port, as far as we may know. */
async function listener(flag: string, port: number, run: RunCommand): Promise<string> {
  try {
    const { stdout } = await run(["ss", "-Hlnp", flag, `sport = :${port}`]);
    return parseListener(stdout) ?? "a program that we may not see";
  } catch (error) {
    return `a program (${messageOf(error)})`;
  }
}

/** @returns the error's code, or null when the port could be had */
function bindTcp({ host, port }: HostPort): Promise<string | null> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", (error) => resolve(errorCode(error) || messageOf(error)));
    server.listen({ host: host || "::", port, ipv6Only: false }, () => server.close(() => resolve(null)));
  });
}

/** As {@link bindTcp}. */
function bindUdp({ host, port }: HostPort): Promise<string | null> {
  const socket = createSocket(host === "" || host.includes(":") ? "udp6" : "udp4");
  return new Promise((resolve) => {
    socket.once("error", (error) => {
      socket.close();
      resolve(errorCode(error) || messageOf(error));
    });
    socket.bind({ address: host || "::", port }, () => socket.close(() => resolve(null)));
  });
}

async function checkCertificate({ config, now }: ServerCheckOptions): Promise<Finding> {
  const name = "certificate";
  if (config.certificateFiles === null && !existsSync(join(config.stateDir, "server.pem"))) {
    return finding(name, "ok", "none yet: a self-signed one is made at the first start");
  }
  try {
    const { certPem } = await loadCertificate(config, now());
    const { fingerprint256, validTo } = new X509Certificate(certPem);
    const daysLeft = Math.floor((Date.parse(validTo) - now()) / DAY_MS);
    const figure = `${daysLeft} days left, until ${new Date(validTo).toISOString().slice(0, 10)}, SHA-256 ${fingerprint256}`;
    return daysLeft >= RENEW_DAYS
      ? finding(name, "ok", figure, "", daysLeft)
      : finding(name, "warning", figure, "renew it, then omail-server reload", daysLeft);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return finding(name, "failure", "cannot be used", error.message);
  }
}
