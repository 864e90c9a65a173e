/** What a listener on the wire sees: little more than the packets' bytes, and nothing of what they say. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { Capture, cutSuperPackets, udpPayload } from "./harness/capture.ts";
import { DEFAULT_TUN, INNER_SERVER, PASSWORD, startClient, startServer } from "./harness/omail.ts";
import { ping } from "./harness/traffic.ts";

/** The required figure: what the original adds to a packet. */
const MAX_ADDED_BYTES = 36;
/** Header of IPv4 and of an ICMP echo request. */
const ECHO_HEADER_BYTES = 28;
const PACKETS = 20;
/** First byte of a path probe. */
const PROBE_TYPE = 4;
const SECRET = "omail-plaintext!";

function countContaining(packets: readonly Uint8Array[], text: string): number {
  return packets.filter((packet) => Buffer.from(packet).includes(text)).length;
}

networkTest(
  "wire: a record of one full packet is at most 36 bytes longer than the packet",
  {},
  async (network) => {
    const client = network.client(0);
    await startServer(network);
    await startClient(network);
    const mtu = Number((await client.run(["cat", `/sys/class/net/${DEFAULT_TUN}/mtu`])).stdout);
    const capture = await Capture.start(network, client, "wan", "udp");
    const full = { count: PACKETS, bytes: mtu - ECHO_HEADER_BYTES, intervalSeconds: 0.05 };
    expect((await ping(client, INNER_SERVER, full)).received).toBe(PACKETS);
    const payloads = (await capture.stop()).map((packet) => udpPayload(packet) ?? packet.subarray(0, 0));
    const lengths = payloads.filter(([type]) => type !== PROBE_TYPE).map(({ length }) => length);
    // Requests and answers, each in a datagram of its own; whatever else passes is small, or asks for the path's MTU.
    expect(lengths.filter((length) => length > mtu).length).toBe(2 * PACKETS);
    console.log(`MTU ${mtu}, ${Math.max(...lengths) - mtu} bytes added`);
    expect(Math.max(...lengths) - mtu).toBeLessThanOrEqual(MAX_ADDED_BYTES);
  },
);

networkTest(
  "wire: none of a known plaintext, of the password and of the configuration shows",
  {},
  async (network) => {
    const client = network.client(0);
    await cutSuperPackets(client, "wan");
    await startServer(network);
    const outer = await Capture.start(network, client, "wan");
    await startClient(network);
    const inner = await Capture.start(network, client, DEFAULT_TUN);
    const pattern = Buffer.from(SECRET).toString("hex");
    expect((await ping(client, INNER_SERVER, { count: 50, bytes: 1000, pattern })).received).toBe(50);
    expect(countContaining(await inner.stop(), SECRET)).toBe(100);
    const seen = await outer.stop();
    expect(seen.length).toBeGreaterThan(100);
    for (const text of [SECRET, PASSWORD, "default", "10.8.0."]) {
      expect({ text, packets: countContaining(seen, text) }).toEqual({ text, packets: 0 });
    }
  },
);
