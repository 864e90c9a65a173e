/**
 * UDP super-packets both ways: `udp_bursts.ts ask HOST PORT` and, to be started before, `udp_bursts.ts answer HOST PORT`.
 *
 * Each burst is one send that the kernel cuts (UDP_SEGMENT). The one that asks sends its bursts, the other sends as many
 * back to whoever it hears from first. `ask` ends when nothing more comes and prints `{"received": N}`, datagrams.
 */

import { libc, ptr } from "../../../lib/libc.ts";
import { SOL_UDP, UDP_SEGMENT } from "../../../lib/libc_linux.ts";

const SEGMENT_BYTES = 1_200;
/** The last datagram is shorter. */
const BURST_BYTES = 30 * SEGMENT_BYTES - 333;
const BURSTS = 200;
/** With 36 KB a burst some 100 Mbit/s. */
const PAUSE_MS = 3;
const SILENCE_MS = 700;

type Socket = Bun.udp.Socket<"uint8array">;

function cutSends(socket: Socket): void {
  const option = Int32Array.of(SEGMENT_BYTES);
  const { fd } = socket as unknown as { readonly fd: number };
  if (libc.setsockopt(fd, SOL_UDP, UDP_SEGMENT, ptr(option), 4) !== 0)
    throw new Error("This kernel has no UDP_SEGMENT");
}

async function sendBursts(socket: Socket, port: number, host: string): Promise<void> {
  for (let burst = 0; burst < BURSTS; burst++) {
    // every byte differs from its neighbours, so that a sum over a wrong range shows
    const bytes = new Uint8Array(BURST_BYTES).map((_, i) => i * 7 + burst + (i >> 8));
    try {
      socket.send(bytes, port, host);
    } catch (error) {
      // left on the socket by an ICMP error, which is told once
      console.error(error);
    }
    await Bun.sleep(PAUSE_MS);
  }
}

async function answer(hostname: string, port: number): Promise<void> {
  let heard = false;
  const socket = await Bun.udpSocket({
    hostname,
    port,
    binaryType: "uint8array",
    socket: {
      data: (self, _bytes, fromPort, from) => {
        if (!heard) void sendBursts(self, fromPort, from);
        heard = true;
      },
      error: console.error,
    },
  });
  cutSends(socket);
  console.log("listening");
}

async function ask(host: string, port: number): Promise<void> {
  let received = 0;
  const socket = await Bun.udpSocket({
    hostname: host.includes(":") ? "::" : "0.0.0.0",
    binaryType: "uint8array",
    socket: { data: () => void received++, error: console.error },
  });
  cutSends(socket);
  await sendBursts(socket, port, host);
  for (let before = -1; before !== received;) {
    before = received;
    await Bun.sleep(SILENCE_MS);
  }
  socket.close();
  console.log(JSON.stringify({ received }));
}

const [role = "", host = "", port = ""] = process.argv.slice(2);
await (role === "answer" ? answer : ask)(host, Number(port));
