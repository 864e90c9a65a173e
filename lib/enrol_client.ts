/**
 * The client's side of enrolment: makes a key that never leaves this machine, has it certified, and gives the profile.
 *
 * The server is recognised by the fingerprint in the token, before the token is sent.
 */

import { formatHostPort } from "./address.ts";
import { makeKey, makeRequest } from "./ca_issue.ts";
import { checkKeyPair } from "./certificate.ts";
import { messageOf } from "./caught.ts";
import { goodbyeError } from "./client_login.ts";
import { receiveServerMessage } from "./client_link.ts";
import { CONTROL_VERSION, encodeMessage, goodbyeMessage } from "./control_message.ts";
import { OmailError, ProtocolError, RefusedError } from "./errors.ts";
import type { EnrolUri } from "./enrol_uri.ts";
import { CONNECT_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS } from "./limits.ts";
import { writePem } from "./pem.ts";
import { decodeProfile, type Profile } from "./profile.ts";
import { resolveServer } from "./resolve.ts";
import type { TlsConnection } from "./tls_connection.ts";
import { connectControl } from "./tls_control.ts";

/**
 * Enrols this client.
 *
 * @throws {RefusedError} when the server is not the one of the token, or refuses the token
 * @throws {OmailError} when the server cannot be reached; the token is still good then
 */
export async function enrol(uri: EnrolUri): Promise<Profile> {
  const connection = await connect(uri);
  const deadline = setTimeout(() => connection.destroy(), HANDSHAKE_TIMEOUT_MS);
  try {
    const key = await makeKey();
    // the server takes the name from the token, not from here
    const request = await makeRequest(key, "enrolment");
    connection.send(encodeMessage({ type: "enrol", version: CONTROL_VERSION, token: uri.token, request }));
    const message = await receiveServerMessage(connection);
    if (message.type === "goodbye") throw goodbyeError(message);
    if (message.type !== "enrolled")
      throw new ProtocolError(`Cannot use message "${message.type}" now: expected enrolled`);
    connection.close(encodeMessage(goodbyeMessage("bye", "enrolled")));
    const cert = writePem({ label: "CERTIFICATE", der: message.certificate });
    checkKeyPair({ certPem: cert, keyPem: key.keyPem });
    return { ...decodeProfile(message.profile, "the server's profile"), cert, key: key.keyPem };
  } finally {
    clearTimeout(deadline);
    connection.destroy();
  }
}

async function connect({ server, pin }: EnrolUri): Promise<TlsConnection> {
  const failures: string[] = [];
  for (const endpoint of await resolveServer(server)) {
    try {
      return await connectControl({
        endpoint,
        serverName: server.host,
        trust: { caPem: null, pins: [pin] },
        identity: null,
        timeoutMs: CONNECT_TIMEOUT_MS,
        signal: new AbortController().signal,
      });
    } catch (error) {
      if (error instanceof RefusedError) throw error;
      failures.push(messageOf(error));
    }
  }
  throw new OmailError(`Cannot enrol at "${formatHostPort(server)}": ${failures.join("; ")}`);
}
