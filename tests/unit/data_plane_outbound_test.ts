/** The way out as somebody on the wire sees it: sizes, numbers, nothing readable; and the published record vectors. */

import { describe, expect, test } from "bun:test";
import {
  DEFAULT_MTU_BYTES,
  gsoMaxBytesFor,
  RECORD_OVERHEAD_BYTES,
  VNET_HEADER_BYTES,
} from "../../lib/limits.ts";
import { datagramSize, readPieces, readSessionId } from "../../lib/protocol.ts";
import { connectedPairs, DEFAULT_ENGINE, SESSION_ID, until } from "../support/data_plane_pair.ts";
import { aesKey, epochKeys } from "../support/epoch_keys.ts";
import { ACK } from "../support/inner_packet.ts";
import { expectWritten, inject, parts, randomPackets, superPackets } from "../support/traffic.ts";
import vectors from "../vectors/record.json";

const connected = connectedPairs();

describe("Outbound", () => {
  test("one full packet is one datagram, with 32 bytes added", async () => {
    const pair = await connected();
    pair.wire.length = 0;
    inject(pair.client, parts(true, { payload: new Uint8Array(DEFAULT_MTU_BYTES - 28) }));
    await until(() => pair.server.tun.written.length === 1);
    expect(pair.wire.map(({ bytes }) => bytes.length)).toEqual([DEFAULT_MTU_BYTES + 32]);
    expect(RECORD_OVERHEAD_BYTES).toBe(32);
  });

  test("packets that wait together travel together", async () => {
    const pair = await connected();
    pair.wire.length = 0;
    for (let i = 0; i < 100; i++) inject(pair.client, parts(true, { payload: Uint8Array.of(i) }));
    await until(() => pair.server.tun.written.length === 100);
    expect(pair.wire.length).toBeLessThan(10);
  });

  test("packets for two sessions that come in turn travel with their own", async () => {
    const pair = await connected();
    const id = SESSION_ID + 1;
    const destination = "10.8.0.3";
    const endpoint = { host: "198.51.100.8", port: 7 };
    pair.server.plane.handle({
      kind: "add-session",
      id,
      allowedIps: [`${destination}/32`],
      peerOffload: true,
      endpoint,
    });
    pair.server.plane.handle({ kind: "set-epoch", id, keys: (await epochKeys(7)).server, sendNow: true });
    await pair.settle();
    pair.wire.length = 0;
    const values = Array.from({ length: 40 }, (_, i) => parts(false, { payload: Uint8Array.of(i) }));
    for (const value of values) {
      inject(pair.server, value);
      inject(pair.server, { ...value, destination });
    }
    await until(() => pair.client.tun.written.length === values.length);
    expectWritten(pair.client, values);
    for (const wanted of [SESSION_ID, id]) {
      const datagrams = pair.wire.filter(({ bytes }) => readSessionId(bytes, 0) === wanted);
      expect(datagrams.length).toBeGreaterThan(0);
      expect(datagrams.length).toBeLessThan(10);
    }
  });

  test("every datagram is well formed and no longer than allowed", async () => {
    for (const maxDatagramBytes of [608, 1000, 1452, 9000]) {
      const pair = await connected({ maxDatagramBytes });
      for (const value of randomPackets(true, 60, 5, 550)) inject(pair.client, value);
      await until(() => pair.server.tun.written.length === 60);
      expect(pair.wire.some(({ bytes }) => readPieces(bytes, 0) > 1)).toBe(true);
      for (const { bytes } of pair.wire) {
        expect(bytes.length).toBeLessThanOrEqual(maxDatagramBytes);
        expect(datagramSize(bytes, 0, bytes.length)).toBe(bytes.length);
      }
    }
  });

  test.each([608, 1000, 1452, 9000])(
    "datagrams of %i bytes: the kernel's largest super-packet arrives",
    async (max) => {
      const pair = await connected({ maxDatagramBytes: max });
      await pair.proveCleanPath();
      const { recordLimit } = pair.stats(pair.client);
      const payload = new Uint8Array(gsoMaxBytesFor(max) - 40).map((_, i) => i * 11);
      const value = parts(true, { protocol: "tcp", flags: ACK, payload });
      inject(pair.client, value, 536);
      await pair.settle();
      expect(pair.drops(pair.server)).toEqual({});
      expect(pair.server.tun.written.map((written) => written.toHex())).toEqual(
        superPackets(value, 536, recordLimit),
      );
      // where a record costs a call to other threads, it is worth its size
      if (DEFAULT_ENGINE === "web") expect(pair.server.tun.written.length).toBe(1);
    },
  );

  test("on a path that is not known yet a super-packet is split into smaller ones, which carry the same bytes", async () => {
    const pair = await connected();
    const payload = new Uint8Array(60_000).map((_, i) => i * 11);
    inject(pair.client, parts(true, { protocol: "tcp", flags: ACK, payload }), 1380);
    await pair.settle();
    const { written } = pair.server.tun;
    expect(written.length).toBeGreaterThan(3);
    const { recordLimit } = pair.stats(pair.client);
    for (const part of written) expect(part.length).toBeLessThanOrEqual(recordLimit);
    // 10 bytes of virtio header, 20 of IP, 20 of TCP
    expect(Buffer.compare(Buffer.concat(written.map((part) => part.subarray(50))), payload)).toBe(0);
    expect(pair.drops(pair.server)).toEqual({});
  });

  test("no part of a plaintext is on the wire", async () => {
    const pair = await connected();
    const secret = new TextEncoder().encode("the plain text of a packet");
    inject(pair.client, parts(true, { payload: secret }));
    inject(pair.server, parts(false, { payload: secret }));
    await pair.settle();
    const wire = Buffer.concat(pair.wire.map(({ bytes }) => bytes));
    for (let i = 0; i + 8 <= secret.length; i++) expect(wire.includes(secret.subarray(i, i + 8))).toBe(false);
  });

  test("no sequence number is used twice under one epoch", async () => {
    const pair = await connected();
    for (let epoch = 1; epoch < 5; epoch++) {
      for (const value of randomPackets(true, 20, epoch)) inject(pair.client, value);
      await pair.rekey(epoch);
    }
    await pair.settle();
    const counters = pair.wire.map(
      ({ from, bytes }) => `${from} ${bytes.subarray(8, 16).toHex()} ${bytes[1]}`,
    );
    expect(new Set(counters).size).toBe(counters.length);
  });

  test("record.json: its datagrams become its packets", async () => {
    const pair = await connected();
    const { key, salt } = vectors.keys["client-to-server"];
    const unused = vectors.keys["server-to-client"];
    for (const vector of vectors.records.filter(({ direction }) => direction === "client-to-server")) {
      const { sessionId: id, epoch } = vector;
      const keys = {
        epoch,
        receiveKey: await aesKey(Uint8Array.fromHex(key)),
        receiveSalt: Uint8Array.fromHex(salt),
        sendKey: await aesKey(Uint8Array.fromHex(unused.key)),
        sendSalt: Uint8Array.fromHex(unused.salt),
      };
      pair.server.plane.handle({ kind: "add-session", id, allowedIps: ["10.8.0.2/32"], peerOffload: true });
      pair.server.plane.handle({ kind: "set-epoch", id, keys, sendNow: false });
      pair.server.said.length = 0;
      pair.server.tun.written.length = 0;
      for (const datagram of vector.datagrams) pair.toServer(pair.stranger(), Uint8Array.fromHex(datagram));
      await until(() => pair.server.said.some(({ kind }) => kind === "epoch-confirmed"));
      const packet = vector.type === 1 ? "00".repeat(VNET_HEADER_BYTES) + vector.plaintext : vector.plaintext;
      expect(pair.server.tun.written.map((written) => written.toHex())).toEqual(
        vector.type === 2 ? [] : [packet],
      );
    }
    expect(pair.drops(pair.server)).toEqual({});
  });
});
