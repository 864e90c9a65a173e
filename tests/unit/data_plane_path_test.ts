/** Datagram sizes, MSS and ICMP answers of a whole data plane, client and server in memory. */

import { describe, expect, test } from "bun:test";
import { HEADER_BYTES, PMTU_BASE_BYTES, VNET_HEADER_BYTES } from "../../lib/limits.ts";
import { readType, RecordType } from "../../lib/protocol.ts";
import { connectedPairs, type DataPlanePair, SERVER_HOST, until } from "../support/data_plane_pair.ts";
import { buildPacket, SYN, withVnet } from "../support/inner_packet.ts";
import { randomSource } from "../support/property.ts";

const connected = connectedPairs();
const HOLE = 1_272;

const UP = {
  version: 4,
  protocol: "udp",
  source: "10.8.0.2",
  destination: "10.8.0.1",
  payload: new Uint8Array(1_300),
} as const;

/** Lets `ms` pass at both ends, as traffic of full packets goes up; returns the packets that arrived. */
async function pass(pair: DataPlanePair, ms: number): Promise<number> {
  const before = pair.server.tun.written.length;
  for (let i = 0; i < ms / 50; i++) {
    pair.client.tun.inject(withVnet(buildPacket(UP)));
    await pair.settle();
    pair.clock.nowMs += 50;
    pair.client.plane.tick();
    pair.server.plane.tick();
    await pair.settle();
  }
  return pair.server.tun.written.length - before;
}

/** The client's datagrams of more than `bytes` bytes vanish. */
function dig(pair: DataPlanePair, bytes: number): void {
  pair.network.observe = (datagram, from) =>
    from.host === SERVER_HOST || datagram.length <= bytes ? datagram : null;
}

const sizes = (pair: DataPlanePair) => [pair.client, pair.server].map((end) => pair.stats(end).datagramBytes);

describe("the path", () => {
  test("both ends prove the full size right after the first keys", async () => {
    const pair = await connected();
    expect(sizes(pair)).toEqual([1_452, 1_452]);
    expect([pair.stats(pair.client).pathMtu, pair.stats(pair.server).pathMtu]).toEqual([1_480, 1_480]);
    expect(pair.drops(pair.client)).toEqual({});
  });

  test("a hole on the way up is found, told, and crossed; the way down stays as it is", async () => {
    const pair = await connected();
    dig(pair, HOLE);
    await pass(pair, 3_000);
    const [up, down] = sizes(pair);
    expect(up).toBeWithin(PMTU_BASE_BYTES, HOLE + 1);
    expect(down).toBe(1_452);
    expect(await pass(pair, 1_000)).toBe(20);
    const notices = pair.client.said.filter((message) => message.kind === "notice");
    expect(notices[0]).toMatchObject({
      level: "info",
      message: expect.stringContaining("path MTU of session"),
    });
    await pass(pair, 4_000);
    expect(sizes(pair)[0]).toBeWithin(HOLE - 8, HOLE + 1);
    expect(pair.stats(pair.client).recordLimit).toBeGreaterThan(HOLE - HEADER_BYTES);
  });

  test("an interface that takes less: the record leaves in fragments, the next one in smaller datagrams", async () => {
    const pair = await connected();
    pair.client.udp.maxBytes = 1_300;
    expect(await pass(pair, 50)).toBe(1);
    expect(sizes(pair)[0]).toBeWithin(PMTU_BASE_BYTES, 1_301);
    expect(pair.wire.some(({ bytes }) => bytes.length > 1_300)).toBe(true);
    pair.wire.length = 0;
    expect(await pass(pair, 1_500)).toBe(30);
    expect(pair.wire.every(({ bytes }) => bytes.length <= 1_300)).toBe(true);
    expect(sizes(pair)[0]).toBeWithin(1_292, 1_301);
    expect(pair.drops(pair.client)).toEqual({});
  });

  test("an endpoint that moved has a new path", async () => {
    const pair = await connected();
    const moved = pair.stranger();
    pair.network.observe = (datagram, from) => {
      if (from.host === SERVER_HOST || from === moved) return datagram;
      moved.send(datagram, datagram.length, SERVER_HOST, 51_820);
      return null;
    };
    pair.client.tun.inject(withVnet(buildPacket(UP)));
    await until(() => pair.stats(pair.server).datagramBytes === PMTU_BASE_BYTES);
    expect(pair.stats(pair.server).pathMtu).toBeNull();
    moved.onReceive((bytes, end, from) => pair.client.udp.deliver(bytes.slice(0, end), from.host, from.port));
    await pass(pair, 500);
    expect(pair.stats(pair.server).datagramBytes).toBe(1_452);
  });

  test("a changed network: both ends search anew, larger and smaller", async () => {
    const pair = await connected();
    const probe = () => pair.client.plane.handle({ kind: "probe-paths" });
    // both ways, and nothing but keep-alives and probes on the way
    const idle = async (ms: number): Promise<void> => {
      for (let i = 0; i < ms / 50; i++) {
        pair.clock.nowMs += 50;
        pair.client.plane.tick();
        pair.server.plane.tick();
        await pair.settle();
      }
    };
    pair.network.observe = (datagram) => (datagram.length <= HOLE ? datagram : null);
    probe();
    await idle(4_000);
    for (const size of sizes(pair)) expect(size).toBeWithin(HOLE - 8, HOLE + 1);
    pair.network.observe = (datagram) => datagram;
    await idle(5_000);
    for (const size of sizes(pair)) expect(size).toBeWithin(HOLE - 8, HOLE + 1);
    probe();
    await idle(500);
    expect(sizes(pair)).toEqual([1_452, 1_452]);
  });

  test("word of a changed network is said again until it was heard", async () => {
    const pair = await connected();
    const pass = async (ms: number): Promise<void> => {
      for (let i = 0; i < ms / 50; i++) {
        pair.clock.nowMs += 50;
        pair.client.plane.tick();
        pair.server.plane.tick();
        await Bun.sleep(1);
      }
    };
    pair.network.observe = () => null;
    pair.client.plane.handle({ kind: "probe-paths" });
    await pass(500);
    expect(sizes(pair)).toEqual([PMTU_BASE_BYTES, 1_452]);
    // acknowledgements of probes do not come through: so the server stays where it began anew
    pair.network.observe = (datagram) => (readType(datagram, 0) === RecordType.probe ? null : datagram);
    await pass(2_000);
    expect(sizes(pair)).toEqual([PMTU_BASE_BYTES, PMTU_BASE_BYTES]);
    pair.network.observe = (datagram) => datagram;
    await pass(2_000);
    expect(sizes(pair)).toEqual([1_452, 1_452]);
  });

  test("probes carry no packets, and are no traffic", async () => {
    const pair = await connected();
    const probes = pair.wire.filter(({ bytes }) => readType(bytes, 0) === RecordType.probe);
    expect(probes.length).toBeGreaterThanOrEqual(4);
    const { txPackets, txBytes } = pair.stats(pair.client);
    expect([txPackets, txBytes]).toEqual([0, 0]);
  });
});

describe("inner packets", () => {
  const mss = (value: number) => Uint8Array.of(2, 4, value >> 8, value & 255);
  const syn = (from: "client" | "server", value: number, checksum: "complete" | "pseudo") =>
    buildPacket({
      version: 4,
      protocol: "tcp",
      source: from === "client" ? "10.8.0.2" : "10.8.0.1",
      destination: from === "client" ? "10.8.0.1" : "10.8.0.2",
      flags: SYN,
      tcpOptions: mss(value),
      checksum,
    });

  test.each(["client", "server"] as const)("the MSS of a SYN from the %s is lowered", async (from) => {
    const pair = await connected({ mtuBytes: 1_420 });
    const other = from === "client" ? pair.server : pair.client;
    pair[from].tun.inject(withVnet(syn(from, 1_460, "complete")));
    await until(() => other.tun.written.length === 1);
    expect(other.tun.written[0]!.subarray(VNET_HEADER_BYTES).toHex()).toBe(
      syn(from, 1_380, "complete").toHex(),
    );
  });

  test("too long and not to be fragmented: answered, never sent; with leave to fragment it goes", async () => {
    const pair = await connected({ mtuBytes: 1_300 });
    const long = { ...UP, payload: new Uint8Array(1_290) };
    pair.client.tun.inject(withVnet(buildPacket({ ...long, fragment: 0x4000 })));
    await until(() => pair.client.tun.written.length === 1);
    const error = pair.client.tun.written[0]!.subarray(VNET_HEADER_BYTES);
    // from the destination to the source: type 3, code 4, next-hop MTU
    expect([...error.subarray(12, 22), ...error.subarray(26, 28)]).toEqual([
      10,
      8,
      0,
      1,
      10,
      8,
      0,
      2,
      3,
      4,
      1_300 >> 8,
      1_300 & 255,
    ]);
    expect(pair.drops(pair.client)).toEqual({ "packet-too-big": 1 });
    pair.client.tun.inject(withVnet(buildPacket({ ...long, fragment: 0 })));
    await until(() => pair.server.tun.written.length === 1);
  });

  test("for nobody: answered so many times a second, counted every time", async () => {
    const pair = await connected();
    const stray = buildPacket({
      ...UP,
      source: "192.0.2.1",
      destination: "10.8.0.77",
      payload: new Uint8Array(4),
    });
    const count = 60 + randomSource(3)(40);
    for (let i = 0; i < count; i++) pair.server.tun.inject(withVnet(stray));
    await until(() => pair.drops(pair.server)["no-session"] === count);
    expect(pair.server.tun.written.length).toBe(50);
    const error = pair.server.tun.written[0]!.subarray(VNET_HEADER_BYTES);
    expect([...error.subarray(12, 22)]).toEqual([10, 8, 0, 77, 192, 0, 2, 1, 3, 1]);
  });

  test("for nobody, from a client: the answer goes to its session", async () => {
    const pair = await connected();
    pair.server.tun.inject(withVnet(buildPacket({ ...UP, destination: "10.8.0.77" })));
    await until(() => pair.client.tun.written.length === 1);
    const error = pair.client.tun.written[0]!.subarray(VNET_HEADER_BYTES);
    expect([...error.subarray(12, 22)]).toEqual([10, 8, 0, 77, 10, 8, 0, 2, 3, 1]);
    expect(pair.server.tun.written).toEqual([]);
  });

  test("a client without a session stays silent: its applications wait for the tunnel", async () => {
    const pair = await connected();
    pair.client.plane.handle({ kind: "remove-session", id: 0x01020304 });
    pair.client.tun.inject(withVnet(buildPacket(UP)));
    await until(() => pair.drops(pair.client)["no-session"] === 1);
    expect(pair.client.tun.written).toEqual([]);
  });
});
