/**
 * Steps 1 and 2 of a client's way: finds an address of a server that answers, and connects by TLS.
 *
 * Addresses are remembered: after a lost connection the resolver itself may be out of reach, because its packets go
 * into the tunnel that is down.
 */

import { formatHostPort, type HostPort } from "./address.ts";
import { messageOf } from "./caught.ts";
import { OmailError, RefusedError } from "./errors.ts";
import { CONNECT_TIMEOUT_MS } from "./limits.ts";
import type { TlsConnection } from "./tls_connection.ts";
import { connectControl, type ServerTrust, type TlsIdentity } from "./tls_control.ts";

/** A connection that finished TLS. */
export interface Dialed {
  readonly connection: TlsConnection;
  /** The server as the user named it. */
  readonly server: HostPort;
  /** Literal address that answered, and the port. */
  readonly endpoint: HostPort;
}

export interface DialerOptions {
  /** Tried in this order; the one that answered last comes first. */
  readonly servers: readonly HostPort[];
  readonly trust: ServerTrust | null;
  readonly identity: TlsIdentity | null;
  /** Turns a server into literal addresses. */
  readonly resolve: (server: HostPort) => Promise<readonly HostPort[]>;
  /** Keeps an address outside the tunnel before it is dialled. */
  readonly admit: (endpoint: HostPort) => Promise<void>;
}

/** Time for an address that is not the last one to try. */
const QUICK_TIMEOUT_MS = 3_000;

/** Connects to the first server that answers. */
export class ClientDialer {
  readonly #options: DialerOptions;
  readonly #known = new Map<HostPort, readonly HostPort[]>();
  #lastServer: HostPort | null = null;

  constructor(options: DialerOptions) {
    this.#options = options;
  }

  /**
   * @throws {RefusedError} when a server's certificate does not pass the check
   * @throws {OmailError} when no server answers; names each try
   */
  async dial(signal: AbortSignal): Promise<Dialed> {
    const failures: string[] = [];
    for (const server of this.#order()) {
      const tried = this.#known.get(server) ?? [];
      const dialed =
        (await this.#dialAll(server, tried, failures, signal)) ??
        (await this.#dialAll(server, await this.#resolveOthers(server, tried, failures), failures, signal));
      if (dialed === null) continue;
      this.#lastServer = server;
      return dialed;
    }
    throw new OmailError(failures.join("; "));
  }

  #order(): readonly HostPort[] {
    const last = this.#lastServer;
    const { servers } = this.#options;
    return last === null ? servers : [last, ...servers.filter((server) => server !== last)];
  }

  /** The addresses that were not tried already. */
  async #resolveOthers(
    server: HostPort,
    tried: readonly HostPort[],
    failures: string[],
  ): Promise<readonly HostPort[]> {
    try {
      const found = await this.#options.resolve(server);
      return found.filter((address) => !tried.some((old) => formatHostPort(old) === formatHostPort(address)));
    } catch (error) {
      failures.push(messageOf(error));
      return [];
    }
  }

  async #dialAll(
    server: HostPort,
    endpoints: readonly HostPort[],
    failures: string[],
    signal: AbortSignal,
  ): Promise<Dialed | null> {
    for (const [i, endpoint] of endpoints.entries()) {
      const timeoutMs = i === endpoints.length - 1 ? CONNECT_TIMEOUT_MS : QUICK_TIMEOUT_MS;
      try {
        const { trust, identity, admit } = this.#options;
        await admit(endpoint);
        const connection = await connectControl({
          endpoint,
          serverName: server.host,
          trust,
          identity,
          timeoutMs,
          signal,
        });
        this.#known.set(server, [endpoint, ...endpoints.filter((other) => other !== endpoint)]);
        return { connection, server, endpoint };
      } catch (error) {
        if (error instanceof RefusedError || signal.aborted) throw error;
        failures.push(messageOf(error));
      }
    }
    return null;
  }
}
