/**
 * Runs of ordinary UDP datagrams: `udp_runs.ts send HOST PORT` and, to be started before, `udp_runs.ts receive HOST PORT`.
 *
 * A run has datagrams of one size and now and then a shorter one. Each carries its number and bytes that follow from it.
 * `send` prints `{"sent": N}`; `receive` prints `{"received": N, "changed": N, "late": N}` when it is told that all were sent.
 */

import { setTimeout as sleep } from "node:timers/promises";

/** The shortest holds the number alone. */
const SIZES = [4, 5, 64, 700, 1_300];
const RUNS = 150;
/** More than one super-packet of the kernel holds. */
const LONGEST_RUN = 90;
const PAUSE_MS = 4;
/** A shorter datagram after so many. */
const SHORTER_EVERY = 37;
const END = 0xffff_ffff;

function datagram(number: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size).map((_, i) => number * 7 + i + (i >> 8));
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

async function send(host: string, port: number): Promise<void> {
  const socket = await Bun.udpSocket({ hostname: host.includes(":") ? "::" : "0.0.0.0" });
  let sent = 0;
  for (let run = 0; run < RUNS; run++) {
    const size = SIZES[run % SIZES.length]!;
    for (let i = 0; i < 1 + ((run * 31) % LONGEST_RUN); i++, sent++) {
      const shorter = sent % SHORTER_EVERY === 0 ? Math.max(4, size >> 1) : size;
      socket.send(datagram(sent, shorter), port, host);
    }
    await sleep(PAUSE_MS);
  }
  await sleep(200);
  for (let i = 0; i < 3; i++) socket.send(datagram(END, 4), port, host);
  await sleep(100);
  console.log(JSON.stringify({ sent }));
  socket.close();
}

async function receive(hostname: string, port: number): Promise<void> {
  const heard = { received: 0, changed: 0, late: 0 };
  let last = -1;
  // stays open for the test to end: a closed port would answer by ICMP
  await Bun.udpSocket({
    hostname,
    port,
    binaryType: "uint8array",
    socket: {
      data: (_socket, bytes) => {
        const number = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
        if (number === END) return void console.log(JSON.stringify(heard));
        heard.received++;
        if (Buffer.compare(bytes, datagram(number, bytes.length)) !== 0) heard.changed++;
        if (number < last) heard.late++;
        last = Math.max(last, number);
      },
    },
  });
  console.log("listening");
}

const [role = "", host = "", port = ""] = process.argv.slice(2);
await (role === "receive" ? receive : send)(host, Number(port));
