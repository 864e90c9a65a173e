/** Puts a client together with this machine: TUN, data plane, control channel, routes and DNS. */

import { formatHostPort, type HostPort, parsePrefix } from "./address.ts";
import { type RunningClient, startClient } from "./client.ts";
import { loadClientIdentity } from "./client_identity.ts";
import { systemClock } from "./clock.ts";
import type { ClientConfig } from "./config_client.ts";
import type { SessionConfig } from "./control_message.ts";
import type { ClientPlan } from "./host_plan.ts";
import { openKnownServers } from "./known_servers.ts";
import { MIN_IPV6_MTU_BYTES } from "./limits.ts";
import type { Log } from "./log.ts";
import { type Machine, withMachine } from "./platform.ts";
import { VERSION_TEXT } from "./version.ts";

/** What the command line hands in besides the configuration. */
export interface ClientSurroundings {
  readonly log: Log;
}

/**
 * Runs a client until a signal or a command ends it, and puts back what it changed on this machine.
 *
 * @throws {RefusedError} when the server refuses us, or cannot prove who it is
 * @throws {OmailError} when it cannot start, or its data plane dies
 */
export async function runClient(config: ClientConfig, { log }: ClientSurroundings): Promise<void> {
  const { trust, identity } = loadClientIdentity(config);
  await withMachine("client", config, log, undefined, async (machine) => {
    // It is made ready while the client connects; messages wait until then.
    const dataPlane = machine.startDataPlane({ bind: { host: "", port: 0 } });
    const client = startClient({
      servers: config.servers,
      user: config.user,
      method: config.method,
      password: async () => config.password?.reveal() ?? "",
      ...(trust === null ? {} : { trust }),
      ...(identity === null ? {} : { identity }),
      requestedAddresses: config.requestedAddresses,
      offload: machine.tun.offload,
      program: `omail-client ${VERSION_TEXT}`,
      dataPlane,
      log,
      clock: systemClock,
      knownServers: await openKnownServers(machine.instance.stateDir, log),
      onConnected: (session, server) => prepare(machine, config, session, server, log),
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

/** Makes this machine fit the session, and tells what came of it. */
async function prepare(
  machine: Machine,
  config: ClientConfig,
  session: SessionConfig,
  server: HostPort,
  log: Log,
): Promise<void> {
  const plan = clientPlan(machine, config, session, server);
  await machine.setup.apply(plan);
  log.info("tunnel is up", {
    tun: plan.tun,
    addresses: plan.addresses.join(","),
    server: formatHostPort(server),
    transport: "udp",
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
    server: { address: server.host, port: server.port },
    dns: config.useDns ? session.dns : [],
  };
}
