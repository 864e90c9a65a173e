/** Puts a client together with this machine: TUN, data plane, control channel, routes and DNS. */

import { formatHostPort, type HostPort, parseAddress, parsePrefix } from "./address.ts";
import { messageOf } from "./caught.ts";
import { type RunningClient, startClient } from "./client.ts";
import { endsSoon, loadClientIdentity } from "./client_identity.ts";
import { timingsFor } from "./client_options.ts";
import { systemClock } from "./clock.ts";
import { runCommand } from "./command.ts";
import type { ClientConfig } from "./config_client.ts";
import type { SessionConfig } from "./control_message.ts";
import { OmailError } from "./errors.ts";
import type { ClientPlan, OuterEndpoint } from "./host_plan.ts";
import { openKnownServers } from "./known_servers.ts";
import { MIN_IPV6_MTU_BYTES } from "./limits.ts";
import type { Log } from "./log.ts";
import { watchNetwork } from "./network_watch.ts";
import { OuterWays } from "./outer_way.ts";
import { type Machine, withMachine } from "./platform.ts";
import { checkPushedConfig } from "./pushed_config.ts";
import { resolveServer } from "./resolve.ts";
import { ServerAddresses } from "./server_addresses.ts";
import { VERSION_TEXT } from "./version.ts";

/** What the command line hands in besides the configuration. */
export interface ClientSurroundings {
  readonly log: Log;
  /** Gets a one-time code for the user. @throws {UsageError} when there is no way to get one */
  readonly code: (signal: AbortSignal) => Promise<string>;
}

/**
 * Runs a client until a signal or a command ends it, and puts back what it changed on this machine.
 *
 * @throws {RefusedError} when the server refuses us, or cannot prove who it is
 * @throws {OmailError} when it cannot start, or its data plane dies
 */
export async function runClient(config: ClientConfig, { log, code }: ClientSurroundings): Promise<void> {
  const { trust, identity, endsMs } = loadClientIdentity(config);
  const soon = endsSoon(endsMs, systemClock.wallMs());
  if (soon !== null) log.warn(soon);
  await withMachine("client", config, log, undefined, async (machine) => {
    const addresses = new ServerAddresses(machine.instance.stateDir, resolveServer, log);
    if (config.killSwitch) await holdBack(machine, config, addresses, log);
    const ways = new OuterWays(runCommand, log, (why) => client.probe(why));
    // only then routes to the servers lead where they should: macOS has a gateway in them
    const onChange = (): void => void machine.setup.refresh().then(() => ways.look());
    const watch = watchNetwork(onChange, log);
    machine.defer(() => watch.close());
    // It is made ready while the client connects; messages wait until then.
    const { transport } = config;
    const dataPlane = machine.startDataPlane({ bind: { host: "", port: 0 }, transport });
    const client = startClient({
      servers: config.servers,
      user: config.user,
      method: config.method,
      password: async () => config.password?.reveal() ?? "",
      ...(trust === null ? {} : { trust }),
      ...(identity === null ? {} : { identity }),
      code,
      requestedAddresses: config.requestedAddresses,
      offload: machine.tun.offload,
      transport,
      timings: timingsFor(config.keepaliveMs),
      program: `omail-client ${VERSION_TEXT}`,
      dataPlane,
      log,
      clock: systemClock,
      knownServers: await openKnownServers(machine.instance.stateDir, log),
      resolve: (server) => addresses.resolve(server),
      admit: async (endpoint) => {
        void ways.follow(endpoint.host);
        await machine.setup.admit(outerEndpoint(endpoint));
      },
      onConnected: async (session, server) => {
        await prepare(machine, config, session, server, log);
        void learnAddresses(machine, config, addresses, log);
      },
      onDisconnected: () => log.debug("Routes stay in place while the client reconnects"),
    });
    machine.defer(() => client.stop());
    await machine.listen({
      status: () => client.status(),
      rekey: async () =>
        client.rekey() ? "New keys are under way" : "Not connected: new keys come with the connection",
    });
    const reason = await untilEnd(machine, dataPlane.failure, client);
    log.info("stopping", { reason });
  });
}

async function untilEnd(machine: Machine, failure: Promise<never>, client: RunningClient): Promise<string> {
  const done = client.done.then(() => "the connection was closed");
  return await Promise.race([machine.ending, failure, done]);
}

/**
 * Lays the kill switch before the first packet to a server. Names are resolved before: afterwards no query gets out.
 *
 * @throws {OmailError} when no server has an address, or the kill switch cannot be laid
 */
async function holdBack(
  { setup, tun }: Machine,
  config: ClientConfig,
  addresses: ServerAddresses,
  log: Log,
): Promise<void> {
  const found = await Promise.allSettled(config.servers.map((server) => addresses.resolve(server)));
  const failures = found.flatMap((result) =>
    result.status === "rejected" ? [messageOf(result.reason)] : [],
  );
  if (failures.length === found.length) {
    throw new OmailError(`${failures.join("; ")}; behind a kill switch no name can be resolved later`);
  }
  for (const failure of failures) log.warn(failure);
  for (const result of found) {
    for (const endpoint of result.status === "fulfilled" ? result.value : []) {
      await setup.admit(outerEndpoint(endpoint));
    }
  }
  const { excludes, allowLan, useDns } = config;
  await setup.holdBack({ tun: tun.name, excludes, allowLan, guardDns: useDns });
  const note = config.splitTunnel === null ? "" : "; networks outside --split-tunnel are out of reach";
  log.info(`The kill switch is on: nothing leaves but the tunnel${note}`);
}

/** Asks for the servers' addresses through the tunnel, so that new ones are known when it is down. */
async function learnAddresses(
  { setup }: Machine,
  { servers }: ClientConfig,
  addresses: ServerAddresses,
  log: Log,
): Promise<void> {
  for (const server of servers) {
    try {
      for (const endpoint of await addresses.resolve(server)) await setup.admit(outerEndpoint(endpoint));
    } catch (error) {
      log.debug(messageOf(error));
    }
  }
}

function outerEndpoint({ host, port }: HostPort): OuterEndpoint {
  return { address: parseAddress(host).text, port };
}

/** Makes this machine fit the session, and tells what came of it. */
async function prepare(
  machine: Machine,
  config: ClientConfig,
  session: SessionConfig,
  server: HostPort,
  log: Log,
): Promise<void> {
  checkPushedConfig(session, server.host, config.splitTunnel ?? []);
  const plan = clientPlan(machine, config, session, server);
  if (plan.fullTunnel && plan.guardDns && plan.dns.length === 0) {
    log.warn(
      "The server pushes no DNS server, and queries outside the tunnel are refused: name one with --dns, or --no-dns",
    );
  }
  await machine.setup.apply(plan);
  log.info("tunnel is up", {
    tun: plan.tun,
    addresses: plan.addresses.join(","),
    server: formatHostPort(server),
    mtu: plan.mtuBytes,
    routes: plan.fullTunnel ? "all" : plan.routes.join(","),
  });
}

function clientPlan(
  { tun, gsoMaxBytes }: Machine,
  config: ClientConfig,
  session: SessionConfig,
  server: HostPort,
): ClientPlan {
  const mtuBytes = Math.min(config.mtuBytes, session.mtu);
  return {
    role: "client",
    tun: tun.name,
    mtuBytes,
    addresses: session.addresses.filter(
      (text) => mtuBytes >= MIN_IPV6_MTU_BYTES || parsePrefix(text).address.family === 4,
    ),
    gsoMaxBytes,
    fullTunnel: config.splitTunnel === null,
    routes: [...new Set([...(config.splitTunnel ?? []), ...session.routes])],
    excludes: config.excludes,
    allowLan: config.allowLan,
    endpoints: [outerEndpoint(server)],
    dns: config.useDns ? (config.dns ?? session.dns) : [],
    searchDomains: config.useDns ? (session.searchDomains ?? []) : [],
    guardDns: config.useDns,
  };
}
