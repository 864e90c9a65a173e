/** Steps 3 and 4 of a client's way: proves who is who on a fresh connection and takes the configuration. */

import { formatHostPort } from "./address.ts";
import { encodeMessage, type Goodbye, goodbyeMessage } from "./control_message.ts";
import {
  MessageLengthError,
  OmailError,
  ProtocolError,
  RefusedError,
  ServerFullError,
  UnknownHostError,
  UsageError,
} from "./errors.ts";
import type { ClientGrant } from "./handshake.ts";
import { ClientHandshake, type ClientHandshakeOptions } from "./handshake_client.ts";
import { receiveServerMessage } from "./client_link.ts";
import { MAX_CONTROL_MESSAGE_BYTES } from "./limits.ts";
import type { TlsConnection } from "./tls_connection.ts";

/** What {@link logIn} adds itself is left out. */
export type LoginOptions = Omit<ClientHandshakeOptions, "exporter">;

/**
 * Runs the log-in on `connection`; after a failure the connection is closed.
 *
 * @param timeoutMs for all of it, but for the wait for a one-time code
 * @param signal gives up early
 * @throws {RefusedError} when the server refused us, or could not prove itself
 * @throws {OmailError} when the connection broke or the protocol was broken: trying again may help
 */
export async function logIn(
  connection: TlsConnection,
  options: LoginOptions,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ClientGrant> {
  const exporter = (label: string, context: Uint8Array) => connection.exportKey(label, context);
  const giveUp = (): void => connection.destroy();
  let late = false;
  const beLate = (): void => {
    late = true;
    giveUp();
  };
  let deadline = setTimeout(beLate, timeoutMs);
  // the time that a person needs does not count; the server has its own patience
  const code = async (ask: () => Promise<string>): Promise<string> => {
    clearTimeout(deadline);
    const given = await ask();
    deadline = setTimeout(beLate, timeoutMs);
    return given;
  };
  const { code: ask, ...rest } = options;
  const unhurried = ask === undefined ? {} : { code: () => code(ask) };
  const handshake = new ClientHandshake({ ...rest, ...unhurried, exporter });
  signal.addEventListener("abort", giveUp);
  try {
    return await exchange(connection, handshake);
  } catch (error) {
    if (error instanceof ProtocolError)
      connection.close(encodeMessage(goodbyeMessage("protocol", error.message)));
    connection.destroy();
    if (late) throw silentLogin(connection, timeoutMs);
    throw error instanceof ProtocolError ? nonsense(connection, handshake, error) : error;
  } finally {
    clearTimeout(deadline);
    signal.removeEventListener("abort", giveUp);
  }
}

function silentLogin({ remote }: TlsConnection, timeoutMs: number): OmailError {
  const server = formatHostPort(remote);
  return new OmailError(
    `Cannot log in at "${server}": TLS stands, but no answer came within ${timeoutMs} ms`,
  );
}

/** Says whose message it was, and which. */
function nonsense(
  { remote }: TlsConnection,
  { awaitsConfiguration }: ClientHandshake,
  error: ProtocolError,
): ProtocolError {
  const what = awaitsConfiguration ? "configuration" : "answer";
  const start = `Cannot use the ${what} of the server at "${formatHostPort(remote)}"`;
  if (error instanceof MessageLengthError) {
    return new ProtocolError(
      `${start}: it has "${error.bytes}" bytes, expected 1 to ${MAX_CONTROL_MESSAGE_BYTES}`,
    );
  }
  return new ProtocolError(`${start}: ${error.message}`);
}

async function exchange(connection: TlsConnection, handshake: ClientHandshake): Promise<ClientGrant> {
  connection.send(encodeMessage(await handshake.start()));
  for (;;) {
    const message = await receiveServerMessage(connection);
    if (message.type === "goodbye") throw goodbyeError(message);
    const step = await handshake.receive(message);
    if ("established" in step) return step.established;
    connection.send(encodeMessage(step.send));
  }
}

/**
 * What a server's goodbye means to a client: {@link RefusedError} when coming back cannot help, else an error after
 * which it tries again.
 */
export function goodbyeError({ code, reason }: Omit<Goodbye, "type">): OmailError {
  if (code === "pool-exhausted") return new ServerFullError(`The server refused: ${reason}`);
  if (code === "protocol") return new ProtocolError(`The server does not understand us: ${reason}`);
  if (code === "refused") return new RefusedError(`The server refused: ${reason}`);
  return new OmailError(`The server ended the connection (${code}): ${reason}`);
}

/**
 * Whether trying again cannot help.
 *
 * An answer that cannot be understood at the first log-in is one of another program or version, and waiting does not
 * mend that: a person, or whoever starts us, has to know. Who had a tunnel stays: the server may be in the middle of an
 * upgrade, it may be somebody else on the way who answers, and without us the machine's traffic would leave in the clear.
 *
 * @param hadSession who had a tunnel does not take an unknown name for a typing error
 * @param hasAlternative others may leave a full server, or another server may have a place, or make sense
 * @param doubtful a refusal may come from somebody who is not our server
 */
export function isFinal(
  error: unknown,
  hadSession: boolean,
  hasAlternative: boolean,
  doubtful: boolean,
): boolean {
  if (error instanceof UnknownHostError) return !hadSession;
  if (error instanceof ServerFullError) return !hasAlternative;
  if (error instanceof ProtocolError) return !hadSession && !hasAlternative;
  if (error instanceof RefusedError) return !doubtful;
  return error instanceof UsageError;
}
