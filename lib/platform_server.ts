/** Puts a server together with this machine: TUN, host settings, data plane, control plane, control socket. */

import { formatHostPort } from "./address.ts";
import type { KickRequest } from "./admin_message.ts";
import { fileStamp } from "./ca_store.ts";
import { messageOf } from "./caught.ts";
import { systemClock } from "./clock.ts";
import type { ServerConfig } from "./config_server.ts";
import { enrolClient } from "./enrol_server.ts";
import { NotRunningError } from "./errors.ts";
import type { ServerPlan } from "./host_plan.ts";
import type { Log } from "./log.ts";
import { type Machine, withMachine } from "./platform.ts";
import { type ReloadableOptions, type RunningServer, startServer } from "./server.ts";
import {
  authFiles,
  loadAddresses,
  loadCertificate,
  loadServerAuth,
  loadServerSecret,
} from "./server_identity.ts";
import { VERSION_TEXT } from "./version.ts";

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
  let current = config;
  const reload = async (): Promise<string> => {
    if (running === null) throw new NotRunningError("Cannot reload: the server is still starting");
    const changed = await readConfig();
    await running.reload(await reloadableOptions(changed));
    current = changed;
    const text = reloadText(config, changed);
    log.info(text);
    return text;
  };
  const onHangup = (): void => {
    reload().catch((error: unknown) => log.error(`Cannot reload, going on as before: ${messageOf(error)}`));
  };
  await withMachine("server", config, log, onHangup, async (machine) => {
    const addresses = await loadAddresses(config);
    await machine.setup.apply(serverPlan(config, addresses, machine));
    const dataPlane = machine.startDataPlane({ bind: config.listen });
    await dataPlane.ready;
    const server = await startServer({
      ...(await reloadableOptions(config)),
      listen: config.listen,
      tun: machine.tun.name,
      addresses,
      mtuBytes: config.mtuBytes,
      keepaliveMs: config.keepaliveMs,
      offload: machine.tun.offload,
      serverSecret: await loadServerSecret(config.stateDir),
      dataPlane,
      log,
      clock: systemClock,
      enrol: (token, request) => enrolClient(config.stateDir, token, request, systemClock.wallMs()),
    });
    running = server;
    machine.defer(() => server.stop("the server is stopping"));
    machine.defer(watchAuthFiles(server, () => current, log));
    await machine.listen({
      status: () => server.status(),
      kick: (request) => kick(server, request),
      reload,
      certificates: () => readCertificatesAgain(server, current),
      rekey: async () => `Asked ${server.rekeyAll()} clients for new keys`,
    });
    const address = formatHostPort(config.listen);
    log.info("listening", {
      address,
      tun: machine.tun.name,
      addresses: addresses.join(","),
      version: VERSION_TEXT,
    });
    const reason = await Promise.race([machine.ending, dataPlane.failure, server.done]);
    log.info("stopping", { reason: reason ?? "the control plane ended" });
  });
}

function serverPlan(
  config: ServerConfig,
  addresses: readonly string[],
  { tun, gsoMaxBytes }: Machine,
): ServerPlan {
  return {
    role: "server",
    tun: tun.name,
    mtuBytes: config.mtuBytes,
    addresses,
    gsoMaxBytes,
    nat: config.nat,
  };
}

async function reloadableOptions(config: ServerConfig): Promise<ReloadableOptions> {
  return {
    pushRoutes: config.pushRoutes,
    pushDns: config.pushDns,
    allowFrom: config.allowFrom,
    maxClients: config.maxClients,
    rekeyAfterMs: config.rekeyAfterMs,
    users: config.users.flatMap(({ name, password }) =>
      password === null ? [] : [{ name, password: password.reveal() }],
    ),
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
  "allowFrom",
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
