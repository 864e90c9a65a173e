/** Puts a server together with this machine: TUN, host settings, data plane, control plane, control socket. */

import { readFileSync } from "node:fs";
import { formatHostPort } from "./address.ts";
import type { AuditSink } from "./audit_event.ts";
import { AuditLog, auditFiles } from "./audit_log.ts";
import type { KickRequest, UnbanRequest } from "./admin_message.ts";
import { fileStamp } from "./ca_store.ts";
import { runCommand } from "./command.ts";
import { messageOf } from "./caught.ts";
import { systemClock } from "./clock.ts";
import type { ServerConfig } from "./config_server.ts";
import { enrolClient } from "./enrol_server.ts";
import { NotRunningError, UsageError } from "./errors.ts";
import { DEFAULT_HANDSHAKE_RATES } from "./handshake_limiter.ts";
import type { ServerPlan } from "./host_plan.ts";
import { loadPolicy } from "./firewall_policy.ts";
import type { Log } from "./log.ts";
import { type Machine, withMachine } from "./platform.ts";
import { PolicyKeeper } from "./policy_keeper.ts";
import { type ReloadableOptions, type RunningServer, startServer } from "./server.ts";
import { accessPolicyOf } from "./server_access.ts";
import {
  authFiles,
  loadAddresses,
  loadCertificate,
  loadServerAuth,
  loadServerSecret,
} from "./server_identity.ts";
import type { ServerStatus } from "./status.ts";
import { UserFollower } from "./user_follower.ts";
import { COMMIT, VERSION, VERSION_TEXT } from "./version.ts";

/** What the command line hands in besides the configuration. */
export interface ServerSurroundings {
  readonly log: Log;
  /** Reads the configuration again, for SIGHUP and `reload`. */
  readonly readConfig: () => Promise<ServerConfig>;
}

/**
 * Runs a server until a signal or a command ends it, and puts back what it changed on this machine.
 *
 * @throws {OmailError} when it cannot start, or its data plane dies
 */
export async function runServer(
  config: ServerConfig,
  { log, readConfig }: ServerSurroundings,
): Promise<void> {
  let running: RunningServer | null = null;
  let policy: PolicyKeeper | null = null;
  let audit: AuditLog | null = null;
  let current = config;
  const reload = async (): Promise<string> => {
    if (running === null) throw new NotRunningError("Cannot reload: the server is still starting");
    const changed = await readConfig();
    await running.reload(await reloadableOptions(changed));
    await policy?.setPolicy(accessPolicyOf(changed, await loadAddresses(config)));
    current = changed;
    const text = reloadText(config, changed);
    log.info(text);
    return text;
  };
  const onHangup = (): void => {
    const noting =
      audit === null ? reload() : noted(audit, "signal SIGHUP", "reload", "configuration", reload());
    noting.catch((error: unknown) => log.error(`Cannot reload, going on as before: ${messageOf(error)}`));
  };
  await withMachine("server", config, log, onHangup, async (machine) => {
    const addresses = await loadAddresses(config);
    policy = openPolicy(config, addresses, machine, log, () => running);
    await machine.setup.apply(serverPlan(config, addresses, machine, policy));
    audit = openAudit(config, machine, log);
    const dataPlane = machine.startDataPlane({ bind: config.listen });
    await dataPlane.ready;
    const server = await startServer({
      ...(await reloadableOptions(config)),
      ...fixedOptions(config, machine),
      addresses,
      serverSecret: await loadServerSecret(config.stateDir),
      follower: new UserFollower(config.stateDir),
      onNetworks: (networks) => void machine.setup.routeNetworks(networks),
      dataPlane,
      log,
      audit,
      onMembers: (members) => policy?.setMembers(members) ?? Promise.resolve(),
      enrol: (token, request) => enrolClient(config.stateDir, token, request, systemClock.wallMs()),
    });
    running = server;
    audit.record({ type: "started", version: VERSION_TEXT });
    machine.defer(() => server.stop("the server is stopping"));
    machine.defer(watchAuthFiles(server, () => current, log));
    await machine.listen(adminHandlers(server, audit, reload, () => current));
    log.info("listening", listeningFields(config, machine, addresses));
    warnOfForwarding(config, log);
    const ended = await Promise.race([machine.ending, dataPlane.failure, server.done]);
    const reason = ended ?? "the control plane ended";
    log.info("stopping", { reason });
    audit.record({ type: "stopped", reason });
  });
}

/** What no reload changes, and nothing that happens. */
function fixedOptions({ listen, mtuBytes, keepaliveMs, handshakeRate }: ServerConfig, { tun }: Machine) {
  return {
    listen,
    tun: tun.name,
    offload: tun.offload,
    mtuBytes,
    keepaliveMs,
    timings: { handshakeRates: { ...DEFAULT_HANDSHAKE_RATES, perAddress: handshakeRate } },
    clock: systemClock,
  };
}

function adminHandlers(
  server: RunningServer,
  audit: AuditLog,
  reload: () => Promise<string>,
  config: () => ServerConfig,
) {
  const program = { startedAt: systemClock.wallMs(), build: { version: VERSION, commit: COMMIT } };
  return {
    status: async (): Promise<ServerStatus> => ({
      ...(await server.status()),
      ...program,
      audit: audit.status(),
    }),
    kick: (request: KickRequest, actor: string) =>
      noted(audit, actor, "kick", JSON.stringify(request), kick(server, request)),
    unban: (request: UnbanRequest, actor: string) =>
      noted(audit, actor, "unban", request.value, unban(server, request)),
    reload: (actor: string) => noted(audit, actor, "reload", "configuration", reload()),
    // the commands that ask for these two have recorded what they changed, and sessions that end are recorded anyway
    certificates: () => readCertificatesAgain(server, config()),
    users: async () => usersText(server.refreshUsers()),
    rekey: async () => `Asked ${server.rekeyAll()} clients for new keys`,
  };
}

/** Without NAT forwarding is the operator's. While it is off the kernel drops packets for others without an answer. */
function warnOfForwarding({ nat, pushRoutes, policy }: ServerConfig, log: Log): void {
  if (nat || (pushRoutes.length === 0 && policy.length === 0) || process.platform !== "linux") return;
  if (readFileSync("/proc/sys/net/ipv4/ip_forward", "utf8").trim() !== "0") return;
  log.warn(
    "Clients reach this machine only: forwarding is off; use --nat, or sysctl -w net.ipv4.ip_forward=1",
  );
}

/** The access policy, which follows who is connected; its table is loaded with the rest of the plan. */
function openPolicy(
  config: ServerConfig,
  addresses: readonly string[],
  { tun }: Machine,
  log: Log,
  server: () => RunningServer | null,
): PolicyKeeper {
  const keeper = new PolicyKeeper({
    tun: tun.name,
    nat: config.nat,
    policy: accessPolicyOf(config, addresses),
    groupsOf: (user) => server()?.groupsOf(user) ?? [],
    routesOf: (user) => server()?.routesOf(user) ?? [],
    load: (script) => loadPolicy(script, runCommand),
    log,
  });
  if (keeper.required && process.platform !== "linux")
    throw new UsageError("Cannot enforce [[policy]] on this system: expected Linux with nftables");
  return keeper;
}

/** Opens the audit log; it is closed after the server said goodbye to everybody. */
function openAudit(config: ServerConfig, { instance, defer }: Machine, log: Log): AuditLog {
  const audit = new AuditLog(auditFiles(instance), { onFull: config.auditFull, clock: systemClock, log });
  defer(() => audit.close());
  return audit;
}

/** Records what somebody at the control socket had done, once it succeeded. */
async function noted(
  audit: AuditSink,
  actor: string,
  action: string,
  target: string,
  done: Promise<string>,
): Promise<string> {
  const text = await done;
  audit.record({ type: "admin", actor, action, target, detail: text });
  return text;
}

function listeningFields({ listen }: ServerConfig, { tun }: Machine, addresses: readonly string[]) {
  return {
    address: formatHostPort(listen),
    tun: tun.name,
    addresses: addresses.join(","),
    version: VERSION_TEXT,
  };
}

function serverPlan(
  config: ServerConfig,
  addresses: readonly string[],
  { tun, gsoMaxBytes }: Machine,
  policy: PolicyKeeper,
): ServerPlan {
  return {
    role: "server",
    tun: tun.name,
    mtuBytes: config.mtuBytes,
    addresses,
    gsoMaxBytes,
    nat: config.nat,
    policy: { script: policy.script(), required: policy.required },
  };
}

async function reloadableOptions(config: ServerConfig): Promise<ReloadableOptions> {
  return {
    pushRoutes: config.pushRoutes,
    pushDns: config.pushDns,
    pushDomains: config.pushDomains,
    allowFrom: config.allowFrom,
    denyFrom: config.denyFrom,
    maxClients: config.maxClients,
    rekeyAfterMs: config.rekeyAfterMs,
    users: config.users.map((user) => ({ ...user, password: user.password?.reveal() ?? null })),
    certificate: await loadCertificate(config, systemClock.wallMs()),
    auth: await loadServerAuth(config, systemClock.wallMs()),
  };
}

/** Reads certificates and revocation list again; sessions whose certificate is no longer good end. */
async function readCertificatesAgain(server: RunningServer, config: ServerConfig): Promise<string> {
  const before = (await server.status()).sessions.length;
  const nowMs = systemClock.wallMs();
  await server.reload({
    certificate: await loadCertificate(config, nowMs),
    auth: await loadServerAuth(config, nowMs),
  });
  const ended = before - (await server.status()).sessions.length;
  return `The running server has read its certificates again and ended ${ended} sessions`;
}

/** How often the files of authority and revocation list are looked at. */
const WATCH_MS = 1_000;

/**
 * Takes over a revocation list as soon as its file changes, also where nobody tells us: a company's list may be
 * fetched by another program, and servers may share a state directory. @returns what stops it
 */
function watchAuthFiles(server: RunningServer, config: () => ServerConfig, log: Log): () => void {
  let stamp = fileStamp(authFiles(config()));
  const look = async (): Promise<void> => {
    const now = fileStamp(authFiles(config()));
    if (now === stamp) return;
    stamp = now;
    try {
      await server.reload({ auth: await loadServerAuth(config(), systemClock.wallMs()) });
      log.info("certificate authority and revocation list read again");
    } catch (error) {
      log.error(`Cannot take over the revocation list, going on with the old one: ${messageOf(error)}`);
    }
  };
  const timer = setInterval(() => void look(), WATCH_MS);
  return () => clearInterval(timer);
}

/** Settings that a reload takes over. */
const RELOADABLE: ReadonlySet<keyof ServerConfig> = new Set([
  "users",
  "pushRoutes",
  "pushDns",
  "pushDomains",
  "allowFrom",
  "denyFrom",
  "policy",
  "policyDefault",
  "maxClients",
  "rekeyAfterMs",
  "certificateFiles",
  "auth",
]);

/** Says what a reload did, and which changes wait for a restart. */
function reloadText(before: ServerConfig, after: ServerConfig): string {
  const waiting = (Object.keys(after) as (keyof ServerConfig)[]).filter(
    (key) => !RELOADABLE.has(key) && JSON.stringify(before[key]) !== JSON.stringify(after[key]),
  );
  // the listener was made without asking for certificates
  if (before.auth.ca === null && after.auth.ca !== null) waiting.push("auth");
  if (waiting.length === 0) return "configuration reloaded";
  return `configuration reloaded, except what needs a restart: ${waiting.join(", ")}`;
}

function usersText(ended: number): string {
  const sessions = ended === 1 ? "1 session" : `${ended} sessions`;
  return ended === 0 ? "The server has taken it over" : `The server has taken it over and ended ${sessions}`;
}

async function unban(server: RunningServer, { value }: UnbanRequest): Promise<string> {
  const lifted = server.lift(value);
  if (lifted.length === 0) throw new NotRunningError(`No address or user "${value}" is shut out`);
  return `Let in again: ${lifted.map(({ subject, value: who }) => `${subject} ${who}`).join(", ")}`;
}

async function kick(server: RunningServer, request: KickRequest): Promise<string> {
  const { sessions } = await server.status();
  const chosen = sessions.filter(({ id, user }) =>
    "session" in request ? id === request.session : user === request.user,
  );
  const ended = chosen.filter(({ id }) => server.kick(id, "ended by the operator"));
  if (ended.length === 0) {
    const what = "session" in request ? `session ${request.session}` : `session of user "${request.user}"`;
    throw new NotRunningError(`No ${what} is open`);
  }
  return `Ended ${ended.map(({ id, user }) => `session ${id} of "${user}"`).join(", ")}`;
}
