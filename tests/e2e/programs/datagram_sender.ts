/**
 * Floods a UDP port with random or with recorded datagrams, at a rate that the other side can look at.
 *
 * Use: datagram_sender.ts random|FILE HOST PORT COUNT BIND_ADDRESS BIND_PORT. FILE has datagrams, each with a 16-bit
 * big-endian length in front; they are sent in turn until COUNT. Prints `{"sent", "replies"}` as JSON; an ICMP error
 * counts as a reply.
 */

import type { udp } from "bun";

const BATCH = 100;
/** Pause between two batches: about 20,000 datagrams a second. */
const PAUSE_MS = 5;
/** Longest datagram of an Ethernet path (1,500 bytes less the IPv4 and UDP headers). */
const MAX_DATAGRAM_BYTES = 1472;

const [source, host, portText, countText, bindAddress, bindPortText] = process.argv.slice(2);
if (source === undefined || host === undefined || bindAddress === undefined) {
  throw new Error("Use: datagram_sender.ts random|FILE HOST PORT COUNT BIND_ADDRESS BIND_PORT");
}

/** Random bytes; every second one with a plausible first byte, so that not all fall at the first check. */
function* randomDatagrams(): Generator<Uint8Array> {
  for (let turn = 0; ; turn++) {
    const datagram = crypto.getRandomValues(new Uint8Array(Math.floor(Math.random() * MAX_DATAGRAM_BYTES)));
    if (turn % 2 === 0 && datagram.length > 4) {
      datagram.set([1 + (turn % 3), 0, datagram.length >> 8, datagram.length]);
    }
    yield datagram;
  }
}

async function* recordedDatagrams(path: string): AsyncGenerator<Uint8Array> {
  const bytes = await Bun.file(path).bytes();
  const datagrams: Uint8Array[] = [];
  for (let offset = 0; offset + 2 <= bytes.length;) {
    const length = (bytes[offset]! << 8) | bytes[offset + 1]!;
    datagrams.push(bytes.subarray(offset + 2, offset + 2 + length));
    offset += 2 + length;
  }
  if (datagrams.length === 0) throw new Error(`"${path}" holds no datagrams`);
  for (;;) yield* datagrams;
}

/** Hands a datagram to the kernel. An ICMP error that came back is thrown by a later send, or told to the `error` handler. */
function offer(socket: udp.Socket<"buffer">, datagram: Uint8Array): "sent" | "full" | "refused" {
  try {
    return socket.send(datagram, Number(portText), host!) ? "sent" : "full";
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ECONNREFUSED") return "refused";
    throw error;
  }
}

async function flood(count: number): Promise<{ sent: number; replies: number }> {
  let replies = 0;
  let sent = 0;
  const receive = { data: () => void replies++, error: () => void replies++ };
  const socket = await Bun.udpSocket({ hostname: bindAddress!, port: Number(bindPortText), socket: receive });
  for await (const datagram of source === "random" ? randomDatagrams() : recordedDatagrams(source!)) {
    const result = offer(socket, datagram);
    if (result === "sent") sent++;
    if (result === "refused") replies++;
    if (sent === count) break;
    if (result === "full" || sent % BATCH === 0) await Bun.sleep(PAUSE_MS);
  }
  await Bun.sleep(500);
  socket.close();
  return { sent, replies };
}

console.log(JSON.stringify(await flood(Number(countText))));
