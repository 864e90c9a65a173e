/**
 * A server that accepts TCP and then fails its client in one of several ways.
 *
 * Use: stalling_server.ts PORT HOW. `silent` says nothing; `half-tls` begins an answer in TLS and goes no further;
 * `no-login` finishes TLS with our ALPN protocol and never answers the log-in.
 */

import { createServer as listenTcp, type Socket } from "node:net";
import { createServer as listenTls } from "node:tls";
import { makeSelfSignedCertificate } from "../../../lib/certificate.ts";

/** A TLS record of a handshake, 122 bytes long, of which only the first two come. */
const HALF_SERVER_HELLO = Uint8Array.from([0x16, 0x03, 0x03, 0x00, 0x7a, 0x02, 0x00]);

const [port, how] = process.argv.slice(2);
const ignore = (socket: Socket): void => void socket.on("error", () => undefined).resume();

if (how === "no-login") {
  const now = Date.now();
  const { certPem, keyPem } = await makeSelfSignedCertificate({
    name: "stall",
    hosts: [],
    nowMs: now,
    validDays: 1,
  });
  const options = { cert: certPem, key: keyPem, ALPNProtocols: ["omail/1"] };
  listenTls(options, ignore).listen(Number(port));
} else {
  listenTcp((socket) => {
    ignore(socket);
    if (how === "half-tls") socket.once("data", () => socket.write(HALF_SERVER_HELLO));
  }).listen(Number(port));
}
console.log("listening");
