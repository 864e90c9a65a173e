/** Two data planes joined by an in-memory network: what goes in at one end comes out at the other, unchanged and once. */

import { describe, expect, test } from "bun:test";
import { KEEPALIVE_MS } from "../../lib/limits.ts";
import { readType, RecordType } from "../../lib/protocol.ts";
import {
  connectedPairs,
  type PairOptions,
  SERVER_HOST,
  SESSION_ID,
  until,
} from "../support/data_plane_pair.ts";
import { ACK, buildPacket, PSH, segmentsOf, withVnet } from "../support/inner_packet.ts";
import { randomSource } from "../support/property.ts";
import { expectWritten, forms, inject, parts, randomPackets, superPackets } from "../support/traffic.ts";

const connected = connectedPairs();

const COMBINATIONS: [string, PairOptions][] = [
  ["offload at both ends", { clientOffload: true, serverOffload: true }],
  ["offload at neither end", { clientOffload: false, serverOffload: false }],
  ["offload at the client", { clientOffload: true, serverOffload: false }],
  ["offload at the server", { clientOffload: false, serverOffload: true }],
];

describe.each(COMBINATIONS)("DataPlane, %s", (_name, options) => {
  test("packets arrive unchanged, once and in order, both ways at a time", async () => {
    const pair = await connected(options);
    const up = randomPackets(true, 150);
    const down = randomPackets(false, 150, 2);
    for (let i = 0; i < 150; i++) {
      inject(pair.client, up[i]!);
      inject(pair.server, down[i]!);
      if (i % 17 === 0) await Bun.sleep(0);
    }
    await pair.settle();
    expectWritten(pair.server, up);
    expectWritten(pair.client, down);
    expect([pair.drops(pair.client), pair.drops(pair.server)]).toEqual([{}, {}]);
  });

  test("the counters are those of the packets", async () => {
    const pair = await connected(options);
    const up = randomPackets(true, 20);
    for (const value of up) inject(pair.client, value);
    await until(() => pair.server.tun.written.length === up.length);
    const bytes = up.reduce((sum, value) => sum + buildPacket(value).length, 0);
    const { rxPackets, rxBytes, txPackets: none } = pair.stats(pair.server);
    expect({ rxPackets, rxBytes, none }).toEqual({ rxPackets: 20, rxBytes: bytes, none: 0 });
    expect(pair.stats(pair.client).txPackets).toBe(20);
    expect(pair.stats(pair.client).txRecords).toBe(pair.stats(pair.server).rxRecords);
  });

  test.each([
    ["TCP over IPv4", 4, "tcp"],
    ["TCP over IPv6", 6, "tcp"],
    ["UDP over IPv4", 4, "udp"],
  ] as const)("a super-packet of %s arrives as it is or cut up", async (_kind, version, protocol) => {
    const pair = await connected(options);
    if (!pair.client.tun.offload) return;
    await pair.proveCleanPath();
    const { recordLimit } = pair.stats(pair.client);
    const before = [pair.stats(pair.server).rxPackets, pair.stats(pair.client).txPackets];
    const payload = new Uint8Array(40_000).map((_, i) => i * 13);
    const value = parts(true, { version, protocol, payload, flags: ACK | PSH });
    inject(pair.client, value, 1300);
    inject(pair.client, parts(true, { payload: Uint8Array.of(1) }));
    await pair.settle();
    const after = pair.server.tun.written.pop()!;
    expect(forms(pair.server, parts(true, { payload: Uint8Array.of(1) }))).toContain(after.toHex());
    const hex = pair.server.tun.written.map((written) => written.toHex());
    const segments = segmentsOf(value, 1300);
    if (pair.server.tun.offload && protocol === "udp") {
      expect(hex).toEqual(segments.map((segment) => withVnet(segment).toHex()));
    } else if (pair.server.tun.offload) {
      expect(hex).toEqual(superPackets(value, 1300, recordLimit));
    } else expect(hex).toEqual(segments.map((segment) => segment.toHex()));
    // the marker of settle() counts, too
    expect(pair.stats(pair.server).rxPackets - before[0]!).toBe(31 + 2);
    expect(pair.stats(pair.client).txPackets - before[1]!).toBe(31 + 2);
  });

  test("rekey under load loses nothing", async () => {
    const pair = await connected(options);
    const up = randomPackets(true, 200, 3, 200);
    const down = randomPackets(false, 200, 4, 200);
    for (let i = 0; i < 200; i++) {
      inject(pair.client, up[i]!);
      inject(pair.server, down[i]!);
      if (i % 10 === 5) {
        // the control channel makes one exchange at a time, so an epoch comes into use before the next one is made
        await until(() => pair.stats(pair.server).epoch === (i - 5) / 10);
        await pair.rekey((i + 5) / 10);
      }
      if (i % 3 === 0) await Bun.sleep(0);
      pair.clock.nowMs += 50;
    }
    await pair.settle();
    expectWritten(pair.server, up);
    expectWritten(pair.client, down);
    expect([pair.stats(pair.client).epoch, pair.stats(pair.server).epoch]).toEqual([20, 20]);
    expect([pair.drops(pair.client), pair.drops(pair.server)]).toEqual([{}, {}]);
    for (const { said } of [pair.client, pair.server]) {
      const confirmed = said
        .filter((message) => message.kind === "epoch-confirmed")
        .map(({ epoch }) => epoch);
      expect(confirmed).toEqual(Array.from({ length: 21 }, (_, epoch) => epoch));
    }
  });
});

describe("DataPlane: a bad path", () => {
  test("lost datagrams lose their own records and nothing else", async () => {
    const pair = await connected();
    let n = 0;
    let dropping = true;
    const lost = new Set<string>();
    pair.network.observe = (datagram, from) => {
      if (!dropping || from.host === SERVER_HOST || ++n % 3 !== 0) return datagram;
      lost.add(datagram.subarray(8, 16).toHex());
      return null;
    };
    const up = randomPackets(true, 60);
    for (const value of up) {
      inject(pair.client, value);
      await Bun.sleep(0);
    }
    await until(() => pair.stats(pair.client).txPackets === 60);
    await Bun.sleep(5);
    dropping = false;
    await pair.settle();
    const arrived = pair.server.tun.written.map((written) => written.toHex());
    const expected = up.filter((value) => forms(pair.server, value).some((form) => arrived.includes(form)));
    expectWritten(pair.server, expected);
    expect(lost.size).toBeGreaterThan(0);
    expect(pair.stats(pair.server).rxRecords).toBe(pair.stats(pair.client).txRecords - lost.size);
    // in small steps, as time goes: a jump looks like a path that is silent
    let told = pair.stats(pair.server).lossPercent > 0;
    for (let ms = 0; ms < 2 * KEEPALIVE_MS && !told; ms += 200) {
      pair.clock.nowMs += 200;
      for (const { plane } of [pair.client, pair.server]) plane.tick();
      await Bun.sleep(1);
      told = pair.stats(pair.server).lossPercent > 0;
    }
    expect(told).toBe(true);
  });

  test("duplicated datagrams: every packet arrives once, whole records and pieces alike", async () => {
    const pair = await connected();
    pair.network.observe = (datagram, from) => {
      if (from.host !== SERVER_HOST) {
        queueMicrotask(() => pair.server.udp.deliver(datagram.slice(), from.host, from.port));
      }
      return datagram;
    };
    const up = randomPackets(true, 60);
    for (const value of up) inject(pair.client, value);
    await pair.settle();
    await pair.settle();
    expectWritten(pair.server, up);
    expect(pair.drops(pair.server)["record-replayed"]).toBeGreaterThan(0);
  });

  test("reordered datagrams: every packet arrives once", async () => {
    const pair = await connected();
    const random = randomSource(9);
    const held: { datagram: Uint8Array<ArrayBuffer>; host: string; port: number }[] = [];
    let shuffling = true;
    pair.network.observe = (datagram, from) => {
      if (!shuffling || from.host === SERVER_HOST) return datagram;
      held.push({ datagram, host: from.host, port: from.port });
      return null;
    };
    const up = randomPackets(true, 100);
    for (let i = 0; i < up.length; i++) {
      inject(pair.client, up[i]!);
      if (i % 9 === 0) await Bun.sleep(0);
    }
    await until(() => pair.stats(pair.client).txPackets === 100);
    await Bun.sleep(5);
    const pieces = held.length;
    while (held.length > 0) {
      const [one] = held.splice(random(held.length), 1);
      pair.server.udp.deliver(one!.datagram, one!.host, one!.port);
    }
    shuffling = false;
    await pair.settle();
    expect(pieces).toBeGreaterThan(20);
    const arrived = pair.server.tun.written.map((written) => written.toHex());
    expect(arrived.length).toBe(up.length);
    for (const value of up)
      expect(forms(pair.server, value).some((form) => arrived.includes(form))).toBe(true);
    expect(pair.drops(pair.server)).toEqual({});
  });

  test("a buffer in which the kernel joined datagrams of several records is walked", async () => {
    const pair = await connected();
    const held: Uint8Array[] = [];
    let holding = true;
    pair.network.observe = (datagram, from) => {
      if (!holding || from.host === SERVER_HOST) return datagram;
      held.push(datagram);
      return null;
    };
    const up = randomPackets(true, 40);
    for (const value of up) {
      inject(pair.client, value);
      await Bun.sleep(0);
    }
    await until(() => pair.stats(pair.client).txPackets === 40);
    await Bun.sleep(5);
    holding = false;
    const { host, port } = pair.client.udp;
    pair.server.udp.deliver(Uint8Array.from(Buffer.concat(held)), host, port);
    await pair.settle();
    expectWritten(pair.server, up);
  });

  test("a full socket loses nothing: the packets wait", async () => {
    const pair = await connected();
    pair.client.udp.full = true;
    const up = randomPackets(true, 50);
    for (const value of up) {
      inject(pair.client, value);
      await Bun.sleep(0);
    }
    await Bun.sleep(10);
    expect(pair.server.tun.written.length).toBe(0);
    pair.client.udp.drain();
    await pair.settle();
    expectWritten(pair.server, up);
    expect(pair.drops(pair.client)).toEqual({});
  });
});

describe("DataPlane: sessions and time", () => {
  test("the server learns where the client is, and follows it", async () => {
    const pair = await connected();
    const moved = () => pair.server.said.filter((message) => message.kind === "endpoint-moved");
    expect(moved().map(({ endpoint }) => endpoint.host)).toEqual([pair.client.udp.host]);
    const cafe = pair.stranger("203.0.113.50", 999);
    pair.network.observe = (datagram, from) => {
      if (from !== pair.client.udp) return datagram;
      pair.toServer(cafe, datagram);
      return null;
    };
    cafe.onReceive((bytes, _end, { host, port }) => pair.client.udp.deliver(bytes, host, port));
    inject(pair.client, parts(true));
    await until(() => moved().length === 2);
    expect(pair.stats(pair.server).endpoint).toEqual({ host: "203.0.113.50", port: 999 });
    inject(pair.server, parts(false));
    await until(() => pair.client.tun.written.length === 1);
  });

  test("keep-alives keep both ends informed: silence, round trip", async () => {
    const pair = await connected();
    pair.wire.length = 0;
    pair.clock.nowMs += KEEPALIVE_MS;
    pair.client.plane.tick();
    pair.server.plane.tick();
    await until(() => new Set(pair.wire.map(({ from }) => from)).size === 2);
    expect(pair.wire.every(({ bytes }) => readType(bytes, 0) === RecordType.keepalive)).toBe(true);
    await until(() => pair.stats(pair.client).silentMs === 0 && pair.stats(pair.server).silentMs === 0);
    expect(pair.stats(pair.client).rttMs).toBe(0);
    pair.clock.nowMs += 7_000;
    expect(pair.stats(pair.server).silentMs).toBe(7_000);
  });

  test("an epoch that is over is no longer opened", async () => {
    const pair = await connected();
    const old: Uint8Array[] = [];
    pair.network.observe = (datagram, from) => {
      if (from.host === SERVER_HOST) return datagram;
      old.push(datagram.slice());
      return null;
    };
    inject(pair.client, parts(true));
    await until(() => old.length === 1);
    pair.network.observe = (datagram) => datagram;
    await pair.rekey(1);
    await pair.settle();
    pair.clock.nowMs += 11_000;
    pair.server.plane.tick();
    pair.toServer(pair.client.udp, old[0]!);
    await pair.settle();
    expect(pair.server.tun.written.length).toBe(0);
    expect(pair.drops(pair.server)).toEqual({ "epoch-unknown": 1 });
  });

  test("packets without a way are counted: no session, no key, no endpoint", async () => {
    const pair = await connected();
    const { server } = pair;
    server.plane.handle({ kind: "add-session", id: 5, allowedIps: ["10.8.0.5/32"], peerOffload: true });
    inject(server, parts(false, { destination: "10.8.0.99" }));
    inject(server, parts(false, { destination: "10.8.0.5" }));
    await until(() => Object.keys(pair.drops(server)).length === 2);
    expect(pair.drops(server)).toEqual({ "no-session": 1, "no-key": 1 });
  });

  test("a removed session is gone: its records are unknown, its packets have no way", async () => {
    const pair = await connected();
    pair.server.plane.handle({ kind: "remove-session", id: SESSION_ID });
    inject(pair.client, parts(true));
    inject(pair.server, parts(false));
    await until(() => Object.keys(pair.drops(pair.server)).length === 2);
    expect(pair.drops(pair.server)).toEqual({ "session-unknown": 1, "no-session": 1 });
    expect(pair.report(pair.server).sessions).toEqual([]);
  });

  test("what the TUN gives that is no packet is dropped, and the next one is read", async () => {
    const pair = await connected();
    for (const junk of [new Uint8Array(5), new Uint8Array(60), new Uint8Array(60).fill(0x45)]) {
      pair.client.tun.inject(junk);
      await Bun.sleep(1);
    }
    inject(pair.client, parts(true));
    await pair.settle();
    expect(pair.server.tun.written.length).toBe(1);
    expect(pair.drops(pair.client)["tun-packet-malformed"]).toBeGreaterThanOrEqual(3);
  });

  test("says that it is ready, reports when asked and unasked, and says that it stopped", async () => {
    const pair = await connected();
    expect(pair.client.said[0]).toEqual({ kind: "ready", port: 51820 });
    pair.client.plane.handle({ kind: "get-stats", requestId: 77 });
    expect(pair.client.said.at(-1)).toMatchObject({ kind: "stats", requestId: 77 });
    for (let i = 0; i < 20; i++) pair.client.plane.tick();
    expect(pair.client.said.some((message) => message.kind === "stats" && message.requestId === 0)).toBe(
      true,
    );
    pair.client.plane.handle({ kind: "stop" });
    expect(pair.client.said.at(-1)).toEqual({ kind: "stopped" });
  });

  test("stopped while records are with the crypto threads: they go nowhere", async () => {
    const pair = await connected({ engine: "web" });
    const sent = pair.wire.length;
    for (const value of randomPackets(true, 20)) inject(pair.client, value);
    await until(() => pair.wire.length > sent);
    pair.server.plane.handle({ kind: "stop" });
    const written = pair.server.tun.written.length;
    await Bun.sleep(20);
    expect(pair.server.tun.written.length).toBe(written);
  });
});
