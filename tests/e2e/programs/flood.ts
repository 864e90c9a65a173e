/**
 * Floods a server's port for a while, as a stranger would, from many addresses of this machine.
 *
 * Use: flood.ts tcp|tls|tls-hold|udp HOST PORT SECONDS PER_SECOND ADDRESS[,ADDRESS…]. `tcp` opens connections and leaves
 * them half open, up to 10,000 at once; `tls` finishes TLS handshakes and sends a broken message, `tls-hold` finishes
 * them and says nothing; `udp` sends datagrams with genuine-looking headers. What the server cuts off is opened anew. Prints "flooding" when it has begun, and at the end (after SIGTERM too) {@link Tally} as JSON.
 */

import net from "node:net";
import tls from "node:tls";

/** What came of a flood. */
export interface Tally {
  readonly sent: number;
  /** Connections that the server cut off, or bytes and ICMP errors that came back. */
  readonly answered: number;
  /** Connections that finished TCP, or TLS. */
  readonly opened: number;
  /** Most of these that were open for at least {@link HELD_MS} at one moment. */
  readonly held: number;
}

const [kind = "", host = "", portText = "", secondsText = "", rateText = "", addressText = ""] =
  process.argv.slice(2);
const port = Number(portText);
let endMs = performance.now() + Number(secondsText) * 1000;
process.on("SIGTERM", () => void (endMs = 0));
const perSecond = Number(rateText);
const addresses = addressText.split(",");
/** Connections held at once. */
const MAX_OPEN = 10_000;
const TICK_MS = 10;
/** A connection that lasts this long was let in: a refusal comes sooner, also from a busy server. */
const HELD_MS = 1_000;
/** Time between two counts of what is held. */
const COUNT_MS = 250;

let sent = 0;
let answered = 0;
let opened = 0;
let held = 0;
const open = new Set<net.Socket>();
/** When each finished TCP, or TLS. */
const openedAt = new Map<net.Socket, number>();

function countHeld(): void {
  const sinceMs = performance.now() - HELD_MS;
  held = Math.max(held, [...openedAt.values()].filter((atMs) => atMs < sinceMs).length);
}

/** Calls `send` with how many are due, at the rate asked for, until the time is over. */
async function atRate(send: (count: number) => void): Promise<void> {
  const startMs = performance.now();
  for (let done = 0; performance.now() < endMs;) {
    const due = Math.floor(((performance.now() - startMs) / 1000) * perSecond) - done;
    if (due > 0) send(due);
    done += due;
    await Bun.sleep(TICK_MS);
  }
}

function knock(): void {
  if (open.size >= MAX_OPEN) return;
  const localAddress = addresses[sent % addresses.length]!;
  const options = { host, port, localAddress };
  const socket =
    kind === "tcp"
      ? net.connect(options)
      : tls.connect({ ...options, rejectUnauthorized: false, ALPNProtocols: ["omail/1"] });
  sent++;
  open.add(socket);
  socket.on(kind === "tcp" ? "connect" : "secureConnect", () => {
    opened++;
    openedAt.set(socket, performance.now());
    if (kind === "tls") socket.write(Uint8Array.of(0, 0, 0, 2, 0x7b, 0x5b));
  });
  socket.on("error", () => undefined);
  socket.on("close", () => {
    answered++;
    open.delete(socket);
    openedAt.delete(socket);
  });
  socket.resume();
}

/** Datagrams of type 1 whose header is consistent: session ID and body are random. */
function datagram(): Uint8Array {
  const bytes = crypto.getRandomValues(new Uint8Array(116));
  bytes.set([1, 0, 0, 100]);
  bytes.set([0, 0, 1], 8);
  return bytes;
}

async function floodUdp(): Promise<void> {
  const batch = Array.from({ length: 256 }, datagram);
  const receive = { data: () => void answered++, error: () => void answered++ };
  const sockets = await Promise.all(
    addresses
      .slice(0, 4)
      .map((hostname) => Bun.udpSocket({ hostname, connect: { hostname: host, port }, socket: receive })),
  );
  let turn = 0;
  await atRate((count) => {
    for (let left = Math.min(count, 8 * batch.length); left > 0; left -= batch.length) {
      const part = left >= batch.length ? batch : batch.slice(0, left);
      sent += sockets[turn++ % sockets.length]!.sendMany(part);
    }
  });
  for (const socket of sockets) socket.close();
}

console.log("flooding");
const counter = setInterval(countHeld, COUNT_MS);
if (kind === "udp") await floodUdp();
else await atRate((count) => void Array.from({ length: Math.min(count, 500) }, knock));
clearInterval(counter);
console.log(JSON.stringify({ sent, answered, opened, held } satisfies Tally));
process.exit(0);
