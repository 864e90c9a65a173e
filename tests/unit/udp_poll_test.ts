/** Real UDP on loopback by recvmsg and sendmsg: records of every shape arrive as they were sent. */

import { afterEach, describe, expect, test } from "bun:test";
import type { HostPort } from "../../lib/address.ts";
import { ptr } from "../../lib/libc.ts";
import {
  getsockopt,
  IP_MTU_DISCOVER,
  IP_RECVERR,
  IPV6_MTU_DISCOVER,
  IPV6_RECVERR,
  PMTUDISC_PROBE,
  SOL_IP,
  SOL_IPV6,
} from "../../lib/libc_linux.ts";
import { HEADER_BYTES, MAX_RECORD_BYTES } from "../../lib/limits.ts";
import { writeParity } from "../../lib/parity.ts";
import {
  datagramSize,
  pieceSize,
  piecesFor,
  readLength,
  readParityGroups,
  RecordType,
  writeHeader,
} from "../../lib/protocol.ts";
import { openUdp } from "../../lib/udp_bun.ts";
import type { PollDatagramSocket } from "../../lib/udp_poll.ts";

const isLinux = process.platform === "linux";
const opened: PollDatagramSocket[] = [];

async function open(host: string): Promise<PollDatagramSocket> {
  const socket = (await openUdp({ host, port: 0 })).toPoll();
  opened.push(socket);
  return socket;
}

afterEach(() => {
  for (const socket of opened.splice(0)) socket.close();
});

const pattern = (length: number, first = 0) => new Uint8Array(length).map((_, i) => first + i * 7 + (i >> 8));

/** The parities of a record that is sealed as `body` and `tag`; null for none. */
function parityOf(
  body: Uint8Array,
  tag: Uint8Array | null,
  pieces: number,
  groups: number,
): Uint8Array | null {
  if (groups === 0) return null;
  const parity = new Uint8Array(groups * pieceSize(body.length + (tag?.length ?? 0), pieces));
  writeParity(parity, body, tag, pieces, groups);
  return parity;
}

/** Sends a record of `length` sealed bytes, its tag apart or not. */
function send(
  from: PollDatagramSocket,
  to: HostPort,
  length: number,
  sequence: number,
  tagApart: boolean,
  groups = 0,
) {
  const header = new Uint8Array(HEADER_BYTES);
  const pieces = piecesFor(length, 1452);
  writeHeader(header, 0, RecordType.data, length, 9, 1, pieces, sequence);
  const sealed = pattern(length, sequence);
  const body = tagApart ? sealed.slice(0, length - 16) : sealed;
  const tag = tagApart ? sealed.slice(length - 16) : null;
  return from.sendRecord(header, body, tag, parityOf(body, tag, pieces, groups), pieces, to);
}

/** An integer option of the socket. */
function optionOf(socket: PollDatagramSocket, level: number, name: number): number {
  const [value, length] = [new Int32Array(1), new Uint32Array([4])];
  expect(getsockopt(socket.fd, level, name, ptr(value), ptr(length))).toBe(0);
  return value[0]!;
}

/** Collects the sealed bytes of the records that come, and who sent them. */
function collect(socket: PollDatagramSocket) {
  const records: string[] = [];
  /** Those that did not come with a whole record. */
  const parities: string[] = [];
  const senders = new Set<HostPort>();
  let pending = Buffer.alloc(0);
  socket.onRecord((header, offset, sealed, start, from) => {
    senders.add(from);
    records.push(sealed.subarray(start, start + readLength(header, offset)).toHex());
  });
  socket.onReceive((bytes, end, from) => {
    senders.add(from);
    for (let at = 0; at < end;) {
      const size = datagramSize(bytes, at, end);
      if (size === 0) throw new Error("a datagram was cut where it should not be");
      const payload = bytes.subarray(at + HEADER_BYTES, at + size);
      if (readParityGroups(bytes, at) > 0) parities.push(Buffer.from(payload).toString("hex"));
      else pending = Buffer.concat([pending, payload]);
      if (pending.length === readLength(bytes, at)) {
        records.push(pending.toString("hex"));
        pending = Buffer.alloc(0);
      }
      at += size;
    }
  });
  const wait = async (count: number): Promise<void> => {
    for (let i = 0; i < 400 && records.length < count; i++) {
      while (socket.receive());
      await Bun.sleep(1);
    }
  };
  return { records, parities, senders, wait };
}

describe.if(isLinux)("PollDatagramSocket", () => {
  test.each([true, false])(
    "records of every size arrive whole and in order (tag apart: %p)",
    async (tagApart) => {
      const [a, b] = [await open("127.0.0.1"), await open("127.0.0.1")];
      const { records, senders, wait } = collect(b);
      // sizes whose last piece holds little, the tag alone, or a part of the tag
      const sizes = [
        17,
        100,
        1436,
        1437,
        1450,
        2872,
        2873,
        2880,
        2888,
        20_000,
        62_026,
        62_026,
        MAX_RECORD_BYTES,
      ];
      for (const [i, size] of sizes.entries()) {
        expect(send(a, { host: "127.0.0.1", port: b.port }, size, i, tagApart)).toBe("sent");
        await wait(i + 1);
      }
      expect(records).toEqual(sizes.map((size, i) => pattern(size, i).toHex()));
      expect([...senders]).toEqual([{ host: "127.0.0.1", port: a.port }]);
    },
  );

  test.each([true, false])(
    "records behind their parities arrive whole, by one send and one by one (tag apart: %p)",
    async (tagApart) => {
      const [a, b] = [await open("127.0.0.1"), await open("127.0.0.1")];
      const { records, parities, wait } = collect(b);
      const to = { host: "127.0.0.1", port: b.port };
      const shapes = [
        [2_873, 1],
        [2_880, 2],
        [16_016, 1],
        [16_016, 3],
        [50_000, 8],
        [50_000, 8],
      ] as const;
      for (const [i, [size, groups]] of shapes.entries()) {
        expect(send(a, to, size, i, tagApart, groups)).toBe("sent");
        await wait(i + 1);
      }
      // what goes in fragments goes one by one
      const header = new Uint8Array(HEADER_BYTES);
      writeHeader(header, 0, RecordType.data, 3_000, 9, 1, 3, 6);
      const sealed = pattern(3_000, 6);
      const [body, tag] = tagApart ? [sealed.slice(0, -16), sealed.slice(-16)] : [sealed, null];
      expect(a.sendFragments(header, body, tag, parityOf(body, tag, 3, 2), 3, to)).toBe("sent");
      await wait(7);
      const expected = [...shapes.map(([size], i) => pattern(size, i)), sealed];
      expect(records).toEqual(expected.map((bytes) => bytes.toHex()));
      // the last record was not joined by the kernel, its two parities came by themselves
      expect(parities.slice(-2).join("")).toBe(Buffer.from(parityOf(sealed, null, 3, 2)!).toString("hex"));
    },
  );

  test("many lone datagrams, a joined record, larger lone ones: nothing lost, all as sent", async () => {
    const [a, b] = [await open("127.0.0.1"), await open("127.0.0.1")];
    const { records, senders, wait } = collect(b);
    const to = { host: "127.0.0.1", port: b.port };
    const expected: string[] = [];
    /** Sends records, each by one send and in as many datagrams as it has, and waits for them. */
    const pass = async (lengths: readonly number[], datagramBytes = 1452): Promise<void> => {
      for (const length of lengths) {
        const sequence = expected.length;
        const header = new Uint8Array(HEADER_BYTES);
        const pieces = piecesFor(length, datagramBytes);
        writeHeader(header, 0, RecordType.data, length, 9, 1, pieces, sequence);
        const sealed = pattern(length, sequence);
        expect(a.sendRecord(header, sealed, null, null, pieces, to)).toBe("sent");
        expected.push(sealed.toHex());
        // few at a time: a socket buffer has room for a record or two
        if (sequence % 30 === 0) await wait(expected.length);
      }
      await wait(expected.length);
    };
    const lone = Array.from({ length: 300 }, (_, i) => 17 + ((i * 37) % 1_420));
    await pass(lone);
    await pass([40_000, 300, 40_000]);
    // ... and a record in datagrams one by one among those of one call
    await pass(lone);
    const header = new Uint8Array(HEADER_BYTES);
    writeHeader(header, 0, RecordType.data, 9_000, 9, 1, 9, expected.length);
    const sealed = pattern(9_000, expected.length);
    expect(a.sendFragments(header, sealed, null, null, 9, to)).toBe("sent");
    expected.push(sealed.toHex());
    await wait(expected.length);
    await pass(
      lone.map((length) => length + 5_000),
      9_000,
    );
    await pass([62_026, 100]);
    expect(records.length).toBe(expected.length);
    expect(records).toEqual(expected);
    expect([...senders]).toEqual([{ host: "127.0.0.1", port: a.port }]);
    expect(b.takeOverflowed()).toBe(0);
  });

  test("two senders in turn, many at a time: each record is of its sender", async () => {
    const [a, c, b] = [await open("127.0.0.1"), await open("127.0.0.1"), await open("127.0.0.1")];
    const got: string[] = [];
    b.onRecord((header, offset, sealed, start, from) => {
      const length = readLength(header, offset);
      got.push(`${from.port} ${sealed.subarray(start, start + length).toHex()}`);
    });
    b.onReceive((bytes, end, from) => got.push(`${from.port} ${bytes.subarray(HEADER_BYTES, end).toHex()}`));
    const sent: string[] = [];
    for (let i = 0; i < 400; i++) {
      const from = i % 3 === 0 ? a : c;
      const length = 100 + i;
      expect(send(from, { host: "127.0.0.1", port: b.port }, length, i, true)).toBe("sent");
      sent.push(`${from.port} ${pattern(length, i).toHex()}`);
      if (i % 40 !== 39) continue;
      for (let n = 0; n < 400 && got.length < sent.length; n++) {
        while (b.receive());
        await Bun.sleep(1);
      }
    }
    expect(got).toEqual(sent);
  });

  test("both families by one socket; the same peer is the same object", async () => {
    const [a, b] = [await open("127.0.0.1"), await open("")];
    const { records, senders, wait } = collect(b);
    for (let i = 0; i < 3; i++) send(a, { host: "127.0.0.1", port: b.port }, 3_000, i, false);
    await wait(3);
    expect([records.length, senders.size]).toEqual([3, 1]);
    const back = collect(a);
    expect(send(b, [...senders][0]!, 3_000, 9, true)).toBe("sent");
    await back.wait(1);
    expect(back.records).toEqual([pattern(3_000, 9).toHex()]);
  });

  test("what a closed port answers costs nobody else a record", async () => {
    const [a, b, gone] = [await open("127.0.0.1"), await open("127.0.0.1"), await open("127.0.0.1")];
    const { port } = gone;
    gone.close();
    opened.splice(opened.indexOf(gone), 1);
    const { records, wait } = collect(b);
    for (let i = 0; i < 20; i++) {
      send(a, { host: "127.0.0.1", port }, 100, i, false);
      expect(send(a, { host: "127.0.0.1", port: b.port }, 3_000, i, true)).toBe("sent");
    }
    await wait(20);
    expect(records.length).toBe(20);
  });

  test("DF is set, also after fragments were sent; ICMP errors are not kept; a datagram that is too large is told", async () => {
    const [a, b] = [await open(""), await open("127.0.0.1")];
    const probing = [
      [SOL_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE],
      [SOL_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE],
      [SOL_IP, IP_RECVERR, 0],
      [SOL_IPV6, IPV6_RECVERR, 0],
    ];
    const options = () => probing.map(([level, name]) => [level, name, optionOf(a, level!, name!)]);
    expect(options()).toEqual(probing);
    const { records, wait } = collect(b);
    const to = { host: "127.0.0.1", port: b.port };
    const header = new Uint8Array(HEADER_BYTES);
    writeHeader(header, 0, RecordType.data, 3_000, 9, 1, 3, 5);
    expect(a.sendFragments(header, pattern(3_000, 5), null, null, 3, to)).toBe("sent");
    await wait(1);
    expect(records).toEqual([pattern(3_000, 5).toHex()]);
    expect(options()).toEqual(probing);
    expect(a.sendRecord(header, pattern(65_500), null, null, 1, to)).toBe("too-large");
    expect(a.lastError).toBeNull();
  });

  test("an address that cannot be used is a failure with a reason, not an exception", async () => {
    const a = await open("127.0.0.1");
    expect(send(a, { host: "vpn.example", port: 9 }, 100, 0, false)).toBe("failed");
    expect(a.lastError).toContain('"vpn.example"');
    expect(send(a, { host: "2001:db8::1", port: 9 }, 100, 1, false)).not.toBe("full");
  });

  test("close: a record that comes late is not sent by whatever has the descriptor's number now", async () => {
    const a = await open("127.0.0.1");
    const b = await open("127.0.0.1");
    a.close();
    // takes the lowest number that is free
    await open("127.0.0.1");
    expect(send(a, { host: "127.0.0.1", port: b.port }, 100, 0, false)).toBe("failed");
    expect(a.lastError).toContain("EBADF");
    expect(b.receive()).toBe(0);
  });

  test("nothing waits: receive() says so", async () => {
    expect((await open("127.0.0.1")).receive()).toBe(0);
  });
});
