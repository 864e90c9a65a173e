/**
 * A server that answers real clients with mutated messages, each connection in another way.
 *
 * Use: hostile_server.ts PORT SEED. Prints "listening", and a line of JSON with its counts for each connection.
 */

import tls from "node:tls";
import { makeSelfSignedCertificate } from "../../../lib/certificate.ts";
import { encodeFrame } from "../../../lib/control_frame.ts";
import { corpusOf } from "../../support/decoders.ts";
import { mutated } from "../../support/mutate.ts";
import { randomSource } from "../../support/property.ts";

const [portText = "", seedText = ""] = process.argv.slice(2);
const random = randomSource(Number(seedText));
const corpus = (decoder: string) => corpusOf(decoder).map(({ bytes }) => bytes);
// a goodbye that refuses would end the client, as it should; that is another test's business
const MESSAGES = corpus("control_message_server");
const FRAMES = corpus("control_frame");
const CHALLENGE = corpusOf("control_message_server").find(({ name }) => name === "challenge")!.bytes;

let connections = 0;
let messages = 0;

const { certPem, keyPem } = await makeSelfSignedCertificate({
  name: "hostile",
  hosts: ["localhost"],
  nowMs: Date.now(),
  validDays: 1,
});
const server = tls.createServer({
  cert: certPem,
  key: keyPem,
  ALPNProtocols: ["omail/1"],
  minVersion: "TLSv1.3",
});
server.on("secureConnection", (socket) => {
  connections++;
  socket.on("error", () => undefined);
  socket.on("data", () => {
    if (socket.destroyed) return;
    messages++;
    const kind = random(4);
    if (kind === 0) socket.write(mutated(FRAMES, random));
    else if (kind === 1) socket.write(encodeFrame(CHALLENGE));
    else {
      const body = mutated(MESSAGES, random).slice(0, 65_536);
      if (body.length > 0) socket.write(encodeFrame(body));
    }
    console.log(JSON.stringify({ connections, messages }));
  });
  // a client must not wait for ever, but the test has no time for its patience
  setTimeout(() => socket.destroy(), 200);
});
server.on("tlsClientError", () => undefined);
server.listen(Number(portText), "::", () => console.log("listening"));
