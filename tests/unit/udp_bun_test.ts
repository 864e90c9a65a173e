/** Real UDP on loopback by Bun: records leave datagram by datagram and arrive whole, whatever the kernel joins. */

import { afterEach, describe, expect, test } from "bun:test";
import { SystemError } from "../../lib/errors.ts";
import { HEADER_BYTES, MAX_RECORD_BYTES } from "../../lib/limits.ts";
import { RecordType, writeDatagrams, writeHeader } from "../../lib/protocol.ts";
import type { DatagramSocket } from "../../lib/udp.ts";
import { type BunDatagramSocket, openUdp } from "../../lib/udp_bun.ts";

const opened: BunDatagramSocket[] = [];

async function open(host: string): Promise<BunDatagramSocket> {
  const socket = await openUdp({ host, port: 0 });
  opened.push(socket);
  return socket;
}

afterEach(() => {
  for (const socket of opened.splice(0)) socket.close();
});

/** Everything that `socket` receives, as one byte string per sender, and a wait until `length` bytes are here. */
function collect(socket: DatagramSocket) {
  const chunks: Uint8Array[] = [];
  const senders = new Set<string>();
  socket.onReceive((bytes, end, { host, port }) => {
    chunks.push(bytes.slice(0, end));
    senders.add(`${host} ${port}`);
  });
  const bytes = async (length: number): Promise<Uint8Array> => {
    for (let i = 0; i < 200; i++) {
      const joined = Buffer.concat(chunks);
      if (joined.length >= length) return joined;
      await Bun.sleep(5);
    }
    throw new Error(`expected ${length} bytes, got ${Buffer.concat(chunks).length}`);
  };
  return { bytes, senders };
}

/** Bytes that differ at every place. */
const pattern = (length: number, first = 0) => new Uint8Array(length).map((_, i) => first + i * 7 + (i >> 8));

describe("openUdp", () => {
  test.each([true, false])(
    "a record leaves as its datagrams and arrives in order (tag apart: %p)",
    async (apart) => {
      const [a, b] = [await open("127.0.0.1"), await open("127.0.0.1")];
      const { bytes, senders } = collect(b);
      let all = new Uint8Array(0);
      for (const [length, pieces] of [
        [17, 1],
        [1436, 1],
        [2873, 3],
        [62_026, 44],
        [MAX_RECORD_BYTES, 45],
      ] as const) {
        const header = new Uint8Array(HEADER_BYTES);
        writeHeader(header, 0, RecordType.data, length, 9, 1, pieces, 5);
        const sealed = pattern(length, pieces);
        const [body, tag] = apart ? [sealed.slice(0, -16), sealed.slice(-16)] : [sealed, null];
        expect(a.sendRecord(header, body, tag, null, pieces, { host: "127.0.0.1", port: b.port })).toBe(
          "sent",
        );
        const wire = new Uint8Array(length + pieces * HEADER_BYTES);
        writeDatagrams(wire, header, sealed, null, null, pieces);
        all = Uint8Array.of(...all, ...wire);
        // in between, or the socket's buffer may be full
        expect((await bytes(all.length)).length).toBe(all.length);
      }
      expect(Buffer.compare(await bytes(all.length), all)).toBe(0);
      expect([...senders]).toEqual([`127.0.0.1 ${a.port}`]);
    },
  );

  test("the sent buffer may be used again at once", async () => {
    const [a, b] = [await open("127.0.0.1"), await open("127.0.0.1")];
    const { bytes } = collect(b);
    const sent = pattern(1000);
    a.send(sent, "127.0.0.1", b.port);
    sent.fill(0);
    expect(Buffer.compare(await bytes(1000), pattern(1000))).toBe(0);
  });

  test("an empty host hears both families, and names an IPv4 sender as IPv4", async () => {
    const [a, b] = [await open("127.0.0.1"), await open("")];
    const { bytes, senders } = collect(b);
    a.send(pattern(10), "127.0.0.1", b.port);
    await bytes(10);
    expect([...senders]).toEqual([`127.0.0.1 ${a.port}`]);
  });

  test("an empty host can answer an IPv4 peer under the address that it saw", async () => {
    const [a, b] = [await open("127.0.0.1"), await open("")];
    const { bytes } = collect(a);
    expect(b.send(pattern(3000), "127.0.0.1", a.port)).toBe("sent");
    expect((await bytes(3000)).length).toBe(3000);
  });

  test("a datagram to a closed port is lost, and the socket lives on", async () => {
    const [a, b, gone] = [await open("127.0.0.1"), await open("127.0.0.1"), await open("127.0.0.1")];
    const { port } = gone;
    gone.close();
    opened.splice(opened.indexOf(gone), 1);
    const { bytes } = collect(b);
    for (let i = 0; i < 3; i++) a.send(pattern(10), "127.0.0.1", port);
    await Bun.sleep(20);
    expect(a.send(pattern(10), "127.0.0.1", b.port)).toBe("sent");
    expect((await bytes(10)).length).toBe(10);
  });

  test("what a closed port answers costs nobody else a datagram", async () => {
    const [a, b, gone] = [await open("127.0.0.1"), await open("127.0.0.1"), await open("127.0.0.1")];
    const { port } = gone;
    gone.close();
    opened.splice(opened.indexOf(gone), 1);
    const { bytes } = collect(b);
    for (let i = 0; i < 20; i++) {
      a.send(pattern(10), "127.0.0.1", port);
      expect(a.send(pattern(10), "127.0.0.1", b.port)).toBe("sent");
    }
    expect((await bytes(200)).length).toBe(200);
  });

  test("send: an address that cannot be reached is a failure with a reason, not an exception", async () => {
    const a = await open("127.0.0.1");
    expect(a.send(pattern(10), "192.0.2.1", 9)).not.toBe("full");
    expect(a.send(new Uint8Array(65_600), "127.0.0.1", a.port)).toBe("failed");
    expect(a.lastError).not.toBeNull();
  });

  test("a port in use is an error that says so", async () => {
    const a = await open("127.0.0.1");
    const second = openUdp({ host: "127.0.0.1", port: a.port });
    expect(second).rejects.toBeInstanceOf(SystemError);
    expect(second).rejects.toThrow(`Cannot listen on UDP port ${a.port} of "127.0.0.1": the port is in use`);
  });

  test("an address that is not ours is an error that names it", () => {
    expect(openUdp({ host: "192.0.2.77", port: 0 })).rejects.toThrow('"192.0.2.77"');
  });
});
