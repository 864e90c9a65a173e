/**
 * TLS 1.3 for the control channel: listens for clients, connects to servers (Bun's TLS; RFC 8446).
 *
 * Connections that have not logged in are kept by `tls_pending.ts`. What comes out of here has finished TLS with our
 * ALPN protocol.
 */

import { checkServerIdentity, connect, createServer, type Server, type TLSSocket } from "node:tls";
import { formatHostPort, type HostPort } from "./address.ts";
import { errnoOf, errorCode, messageOf } from "./caught.ts";
import { OmailError, RefusedError, SystemError } from "./errors.ts";
import { ALPN_PROTOCOL } from "./limits.ts";
import { TlsConnection } from "./tls_connection.ts";
import { type ListenFailure, type PendingOptions, PendingSet } from "./tls_pending.ts";

export type { PendingConnection } from "./tls_pending.ts";

/** A certificate chain and its private key as PEM texts. */
export interface TlsIdentity {
  readonly certPem: string;
  readonly keyPem: string;
}

export interface ListenOptions extends PendingOptions {
  /** An empty host means every address of both families; port 0 lets the kernel choose. */
  readonly listen: HostPort;
  readonly identity: TlsIdentity;
}

export interface ControlListener {
  readonly port: number;
  /** Connections that ended before they logged in, by reason. */
  readonly failures: Readonly<Record<ListenFailure, number>>;
  /** New connections get another certificate; standing ones keep theirs. */
  setIdentity(identity: TlsIdentity): void;
  /** Accepts no more and cuts off all that have not logged in. */
  close(): void;
}

/**
 * Listens for clients.
 *
 * @throws {SystemError} when the address is in use, or listening fails otherwise
 */
export async function listenControl(options: ListenOptions): Promise<ControlListener> {
  const host = options.listen.host === "" ? "::" : options.listen.host;
  try {
    return await listenOn(options, host);
  } catch (error) {
    // a kernel without IPv6
    if (options.listen.host === "" && errorCode(error) === "EAFNOSUPPORT")
      return await listenOn(options, "0.0.0.0");
    throw listenError(error, options.listen);
  }
}

async function listenOn(options: ListenOptions, host: string): Promise<ControlListener> {
  const pending = new PendingSet(options);
  const server = createServer({
    ...tlsOptions(options.identity),
    minVersion: "TLSv1.3",
    ALPNProtocols: [ALPN_PROTOCOL],
  });
  server.on("connection", (socket) => pending.accepted(socket as TLSSocket));
  server.on("secureConnection", (socket) => pending.secured(socket));
  server.on("tlsClientError", (error, socket) => pending.failed(socket, "tls-failed", error.message));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port: options.listen.port, ipv6Only: false }, resolve);
  });
  server.on("error", (error) => options.log.error("control listener failed", { error: error.message }));
  return {
    port: portOf(server),
    failures: pending.failures,
    setIdentity: (identity) => server.setSecureContext(tlsOptions(identity)),
    close: () => {
      server.close();
      pending.destroyAll();
    },
  };
}

export interface ConnectOptions {
  /** A literal address and port. */
  readonly endpoint: HostPort;
  /** Name or literal that the user gave; sent as SNI, and compared with the certificate when there is a `caPem`. */
  readonly serverName: string;
  /**
   * Certificate authorities (PEM). With them the server's chain and name are checked; without them any certificate
   * passes here, and the log-in (SCRAM with channel binding) proves the server.
   */
  readonly caPem: string | null;
  readonly timeoutMs: number;
  /** Gives up early. */
  readonly signal: AbortSignal;
}

/**
 * Connects and finishes the TLS handshake.
 *
 * @throws {RefusedError} when the certificate does not pass the check against `caPem`
 * @throws {OmailError} when there is no connection: it names the endpoint and the cause
 */
export async function connectControl(options: ConnectOptions): Promise<TlsConnection> {
  const { endpoint, serverName, caPem, timeoutMs, signal } = options;
  signal.throwIfAborted();
  const socket = connect({
    host: endpoint.host,
    port: endpoint.port,
    ...(isName(serverName) ? { servername: serverName } : {}),
    ...(caPem === null ? {} : { ca: caPem }),
    // judged below, so that a wrong certificate can be told from a broken connection
    rejectUnauthorized: false,
    minVersion: "TLSv1.3",
    ALPNProtocols: [ALPN_PROTOCOL],
  });
  try {
    await handshakeDone(socket, timeoutMs, signal);
    if (caPem !== null) checkCertificate(socket, serverName);
    if (socket.alpnProtocol !== ALPN_PROTOCOL) throw new OmailError(`it does not speak "${ALPN_PROTOCOL}"`);
    const connection = new TlsConnection(socket);
    // a server may send on its own before the session of a returning client is there again
    connection.receiveRecords(() => undefined);
    return connection;
  } catch (error) {
    socket.destroy();
    if (error instanceof RefusedError || signal.aborted) throw error;
    const reason = messageOf(error);
    throw new OmailError(`Cannot connect to "${formatHostPort(endpoint)}": ${reason}`, { cause: error });
  }
}

function handshakeDone(socket: TLSSocket, timeoutMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let answer = "no answer";
    socket.once("connect", () => (answer = "TCP is accepted, but TLS does not come about"));
    const onTimeout = (): void => settle(new OmailError(`${answer} within ${timeoutMs} ms`));
    const timer = setTimeout(onTimeout, timeoutMs);
    const onAbort = (): void => settle(new OmailError("given up"));
    const settle = (error: Error | null): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      if (error === null) resolve();
      else reject(error);
    };
    signal.addEventListener("abort", onAbort);
    socket.once("secureConnect", () => settle(null));
    // stays registered: a late error of a destroyed socket must not end the process
    socket.on("error", (error: Error) => settle(error));
    socket.once("close", () => settle(new OmailError("the connection was closed")));
  });
}

function checkCertificate(socket: TLSSocket, serverName: string): void {
  const wrongName = checkServerIdentity(serverName, socket.getPeerCertificate());
  const problem = socket.authorized ? wrongName?.message : String(socket.authorizationError);
  if (problem === undefined) return;
  throw new RefusedError(
    `Cannot trust the certificate of "${serverName}": ${problem}; expected one for this name that the CA issued`,
  );
}

/** SNI has no place for address literals (RFC 6066, section 3). */
function isName(host: string): boolean {
  return /[a-z]/i.test(host) && !host.includes(":");
}

function tlsOptions(identity: TlsIdentity) {
  return { cert: identity.certPem, key: identity.keyPem };
}

function portOf(server: Server): number {
  const address = server.address();
  return address === null || typeof address === "string" ? 0 : address.port;
}

function listenError(error: unknown, listen: HostPort): SystemError {
  const at = formatHostPort(listen);
  const known: Readonly<Record<string, string>> = {
    EADDRINUSE: `TCP port ${listen.port} is in use`,
    EADDRNOTAVAIL: "expected an address of this machine",
    EACCES: "ports under 1024 need root",
  };
  const reason = known[errorCode(error)] ?? messageOf(error);
  return new SystemError(`Cannot listen on "${at}": ${reason}`, "listen", errnoOf(error));
}
