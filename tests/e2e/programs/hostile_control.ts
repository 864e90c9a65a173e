/**
 * Attacks the control port in every way a stranger can, all at once, and tells how each connection ended.
 *
 * Use: hostile_control.ts HOST PORT LIMIT_MS. Prints a JSON list of {@link Ending}.
 */

import net from "node:net";
import tls from "node:tls";

/** How one attack ended. */
export interface Ending {
  readonly attack: string;
  /** The server closed the connection within the limit. */
  readonly closed: boolean;
  readonly afterMs: number;
  /** Bytes of the control channel that the server sent us. */
  readonly receivedBytes: number;
}

const [host = "", portText = "", limitText = ""] = process.argv.slice(2);
const port = Number(portText);
const limitMs = Number(limitText);
const DRIP_PAUSE_MS = 250;

/** Does something to a connected socket; returns when it has nothing more to do. */
type Attack = (socket: net.Socket) => void | Promise<void>;

/** Carries out an attack and waits for the server to close, or for the limit. */
function carryOut(name: string, socket: net.Socket, readyEvent: string, attack: Attack): Promise<Ending> {
  const start = performance.now();
  let receivedBytes = 0;
  return new Promise((resolve) => {
    const end = (closed: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ attack: name, closed, afterMs: Math.round(performance.now() - start), receivedBytes });
    };
    const timer = setTimeout(() => end(false), limitMs);
    socket.on("data", (bytes) => void (receivedBytes += bytes.length));
    // A reset is a way of closing too.
    socket.on("error", () => end(true));
    socket.on("close", () => end(true));
    socket.once(readyEvent, () => void attack(socket));
  });
}

const overTcp = (name: string, attack: Attack) =>
  carryOut(name, net.connect({ host, port }), "connect", attack);

const overTls = (name: string, attack: Attack, options: tls.ConnectionOptions = {}) =>
  carryOut(
    name,
    tls.connect({
      host,
      port,
      rejectUnauthorized: false,
      ALPNProtocols: ["omail/1"],
      minVersion: "TLSv1.3",
      ...options,
    }),
    "secureConnect",
    attack,
  );

/** A control message as it goes over the wire: 32-bit length, JSON. */
function frame(body: string): Uint8Array {
  const bytes = new TextEncoder().encode(body);
  const framed = new Uint8Array(4 + bytes.length);
  new DataView(framed.buffer).setUint32(0, bytes.length);
  framed.set(bytes, 4);
  return framed;
}

/** Sends one byte at a time until the other side has had enough. */
async function drip(socket: net.Socket, bytes: Uint8Array): Promise<void> {
  for (const byte of bytes) {
    if (socket.destroyed) return;
    socket.write(Uint8Array.of(byte));
    await Bun.sleep(DRIP_PAUSE_MS);
  }
}

/** The first flight of a genuine TLS client, caught by a listener of our own. */
function genuineClientHello(): Promise<Uint8Array> {
  return new Promise((resolve) => {
    const listener = net.createServer((socket) => {
      socket.once("data", (hello: Buffer) => {
        resolve(new Uint8Array(hello));
        socket.destroy();
        listener.close();
      });
    });
    listener.listen(0, "127.0.0.1", () => {
      const { port: ownPort } = listener.address() as net.AddressInfo;
      tls
        .connect({ host: "127.0.0.1", port: ownPort, ALPNProtocols: ["omail/1"] })
        .on("error", () => undefined);
    });
  });
}

const hello = await genuineClientHello();
const endings = await Promise.all([
  overTcp("silence", () => undefined),
  overTcp(
    "garbage instead of TLS",
    (socket) => void socket.write(crypto.getRandomValues(new Uint8Array(60_000))),
  ),
  overTcp("a truncated ClientHello", (socket) => void socket.end(hello.subarray(0, hello.length >> 1))),
  overTcp("a ClientHello and then garbage", (socket) => {
    socket.write(hello);
    socket.write(crypto.getRandomValues(new Uint8Array(4_000)));
  }),
  overTcp("a slow-dripped ClientHello", (socket) => drip(socket, hello)),
  overTls("another protocol name", () => undefined, { ALPNProtocols: ["http/1.1"] }),
  overTls("TLS 1.2", () => undefined, { minVersion: "TLSv1.2", maxVersion: "TLSv1.2" }),
  overTls("silence inside TLS", () => undefined),
  overTls("a length of 4 GB", (socket) => void socket.write(Uint8Array.of(0xff, 0xff, 0xff, 0xff))),
  overTls("a length one over the limit", (socket) => void socket.write(Uint8Array.of(0, 1, 0, 1))),
  overTls("an empty message", (socket) => void socket.write(frame(""))),
  overTls("truncated JSON", (socket) => void socket.write(frame('{"type":"hello"'))),
  overTls("JSON that is no object", (socket) => void socket.write(frame("[1,2,3]"))),
  overTls("an unknown message", (socket) => void socket.write(frame('{"type":"open-sesame"}'))),
  overTls("a known message without its fields", (socket) => void socket.write(frame('{"type":"hello"}'))),
  overTls("a message out of order", (socket) => void socket.write(frame('{"type":"ping"}'))),
  overTls(
    "30,000 nested lists",
    (socket) => void socket.write(frame("[".repeat(30_000) + "]".repeat(30_000))),
  ),
  overTls(
    "bytes that are not UTF-8",
    (socket) => void socket.write(Uint8Array.of(0, 0, 0, 3, 0xff, 0xfe, 0xfd)),
  ),
  overTls("half a message and an end", (socket) => void socket.end(frame('{"type":"hello"}').subarray(0, 9))),
  overTls("a slow-dripped message", (socket) => drip(socket, frame(`{"type":"${"x".repeat(500)}"}`))),
]);
console.log(JSON.stringify(endings));
process.exit(0);
