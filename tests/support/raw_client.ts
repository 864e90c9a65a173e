/** Clients that speak the control protocol only as far as a test wants, down to bare TCP. */

import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { logIn, type LoginOptions } from "../../lib/client_login.ts";
import {
  type ClientMessage,
  decodeServerMessage,
  encodeMessage,
  type ServerMessage,
} from "../../lib/control_message.ts";
import type { ClientGrant } from "../../lib/handshake.ts";
import { PasswordKeys } from "../../lib/password.ts";
import type { TlsConnection } from "../../lib/tls_connection.ts";
import { connectControl } from "../../lib/tls_control.ts";
import { PASSWORD, type TestServer } from "./control_harness.ts";

/** Connections to be destroyed in `afterEach`. */
export class RawClients {
  readonly #opened: { destroy(): void }[] = [];

  destroyAll(): void {
    for (const one of this.#opened.splice(0)) one.destroy();
  }

  /** Has finished TLS with our ALPN protocol. */
  async dial(server: TestServer): Promise<TlsConnection> {
    const connection = await connectControl({
      endpoint: { host: "127.0.0.1", port: server.server.port },
      serverName: "127.0.0.1",
      trust: null,
      identity: null,
      timeoutMs: 2_000,
      signal: new AbortController().signal,
    });
    this.#opened.push(connection);
    return connection;
  }

  /** TLS without our framing on top. */
  tls(server: TestServer): TLSSocket {
    const options = { host: "127.0.0.1", ALPNProtocols: ["omail/1"], rejectUnauthorized: false };
    return this.#open(connectTls({ port: server.server.port, ...options }));
  }

  /** A bare TCP connection, whose answers are thrown away. */
  tcp(server: TestServer): Socket {
    // what is not read would hide the end of the stream
    return this.#open(connectTcp(server.server.port, "127.0.0.1")).resume();
  }

  #open<Opened extends Socket>(socket: Opened): Opened {
    socket.on("error", () => undefined);
    this.#opened.push(socket);
    return socket;
  }
}

/** The right password of `alice`. Shared, so that a test file stretches it once for each salt. */
const rightPassword = new PasswordKeys(PASSWORD);

/** Logs in as `alice`. */
export function logInOn(
  connection: TlsConnection,
  options: Partial<LoginOptions> = {},
): Promise<ClientGrant> {
  const login: LoginOptions = {
    user: "alice",
    method: "password",
    serverTrusted: false,
    password: () => Promise.resolve(rightPassword),
    client: "test",
    offload: false,
    wantedAddresses: [],
    resume: null,
    random: (length) => crypto.getRandomValues(new Uint8Array(length)),
    ...options,
  };
  return logIn(connection, login, 2_000, new AbortController().signal);
}

export function send(connection: TlsConnection, message: ClientMessage): void {
  connection.send(encodeMessage(message));
}

/** The next message; null at the end of the connection. */
export async function next(connection: TlsConnection): Promise<ServerMessage | null> {
  const body = await connection.receive();
  return body === null ? null : decodeServerMessage(body);
}

/** Resolves when the socket is closed. */
export function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once("close", () => resolve()));
}
