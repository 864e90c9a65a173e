/**
 * A server that logs clients in as it should and then tells them nonsense.
 *
 * Use: lying_server.ts FIRST_PORT LIE... Each LIE is JSON that replaces keys of a good configuration; the n-th is told on port
 * FIRST_PORT + n. `{"routeCount": N}` stands for N routes, also more than a message may hold. The user is `default`, the password PASSWORD of the harness.
 */

import { makeSelfSignedCertificate } from "../../../lib/certificate.ts";
import { FRAME_HEADER_BYTES } from "../../../lib/control_frame.ts";
import { decodeClientMessage, encodeMessage, type SessionConfig } from "../../../lib/control_message.ts";
import { type HandshakePolicy, ServerHandshake } from "../../../lib/handshake_server.ts";
import { MAX_CONTROL_MESSAGE_BYTES } from "../../../lib/limits.ts";
import type { Log } from "../../../lib/log.ts";
import { makeVerifier } from "../../../lib/password.ts";
import type { TlsConnection } from "../../../lib/tls_connection.ts";
import { listenControl, type PendingConnection } from "../../../lib/tls_control.ts";
import { PASSWORD } from "../harness/omail.ts";

const GOOD: SessionConfig = {
  sessionId: 7,
  addresses: ["10.8.0.2/24"],
  mtu: 1420,
  routes: [],
  dns: [],
  timers: { keepaliveMs: 10_000, sessionTimeoutMs: 60_000, rekeyAfterMs: 120_000 },
  features: { offload: false },
};
const ITERATIONS = 4096;

const [firstPort = "", ...lies] = process.argv.slice(2);
const random = (length: number) => crypto.getRandomValues(new Uint8Array(length));
const verifier = makeVerifier(PASSWORD, random(16), ITERATIONS);
const certificate = await makeSelfSignedCertificate({
  name: "liar",
  hosts: ["localhost"],
  nowMs: Date.now(),
  validDays: 1,
});
const write = (message: string): void => console.error(message);
const log: Log = { error: write, warn: write, info: write, debug: () => undefined };

for (const [index, lie] of lies.entries()) {
  await listenControl({
    listen: { host: "", port: Number(firstPort) + index },
    identity: { certPem: certificate.certPem, keyPem: certificate.keyPem },
    askForCertificate: false,
    clientCaPem: null,
    maxPending: 10,
    maxPendingPerAddress: 10,
    handshakeTimeoutMs: 10_000,
    tlsTimeoutMs: 10_000,
    helloTimeoutMs: 10_000,
    admit: () => null,
    keyOf: (address) => address,
    onConnection: (pending) => void serve(pending, lie),
    log,
  });
}
console.log("listening");

async function serve({ connection }: PendingConnection, lie: string): Promise<void> {
  // What is sent is not what the types allow: that is the point.
  const { routeCount, ...changes } = JSON.parse(lie) as Partial<SessionConfig> & { routeCount?: number };
  const config: SessionConfig = { ...GOOD, ...changes };
  if (routeCount !== undefined) config.routes = manyRoutes(routeCount);
  const grant = { config, resumeToken: random(32), lastEpoch: -1 };
  const policy: HandshakePolicy = {
    certificate: () => Promise.resolve({ kind: "none" }),
    proofRefusal: () => null,
    enrol: () => Promise.reject(new Error("nobody asks for a certificate")),
    needsCode: () => false,
    acceptCode: () => false,
    verifierOf: () => verifier,
    openSession: () => Promise.resolve(grant),
    resumeSession: () => Promise.resolve(null),
  };
  const handshake = new ServerHandshake(
    policy,
    (label, context) => connection.exportKey(label, context),
    random,
  );
  for (;;) {
    const body = await connection.receive();
    if (body === null) return;
    const message = decodeClientMessage(body);
    if (message.type !== "hello" && message.type !== "proof") continue;
    const step = await handshake.receive(message);
    if (step.kind !== "refuse") send(connection, encodeMessage(step.message));
  }
}

/** Different networks, as many as asked for. */
function manyRoutes(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}/32`);
}

/** Sends a message of any length: our own code would refuse to send one that is too long. */
function send(connection: TlsConnection, body: Uint8Array): void {
  if (body.length <= MAX_CONTROL_MESSAGE_BYTES) return connection.send(body);
  const frame = new Uint8Array(FRAME_HEADER_BYTES + body.length);
  new DataView(frame.buffer).setUint32(0, body.length);
  frame.set(body, FRAME_HEADER_BYTES);
  connection.sendRecords(frame, () => undefined);
}
