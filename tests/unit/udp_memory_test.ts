/** The in-memory UDP keeps the promises of `DatagramSocket`. */

import { describe, expect, test } from "bun:test";
import { MemoryNetwork } from "../../lib/udp_memory.ts";

function pair() {
  const network = new MemoryNetwork();
  const a = network.open("192.0.2.1", 1);
  const b = network.open("192.0.2.2", 2);
  const received: string[] = [];
  b.onReceive((bytes, end, { host, port }) =>
    received.push(`${bytes.subarray(0, end).toHex()} ${host} ${port}`),
  );
  return { network, a, b, received };
}

const turn = () => Bun.sleep(0);

describe("MemoryDatagramSocket", () => {
  test("send: cuts into datagrams that arrive in order, with the sender's address", async () => {
    const { a, received } = pair();
    expect(a.send(Uint8Array.of(1, 2, 3, 4, 5), 2, "192.0.2.2", 2)).toBe("sent");
    expect(received).toEqual([]);
    await turn();
    expect(received).toEqual(["0102 192.0.2.1 1", "0304 192.0.2.1 1", "05 192.0.2.1 1"]);
  });

  test("send: the buffer may be used again at once", async () => {
    const { a, received } = pair();
    const bytes = Uint8Array.of(1, 2);
    a.send(bytes, 2, "192.0.2.2", 2);
    bytes.fill(0);
    await turn();
    expect(received).toEqual(["0102 192.0.2.1 1"]);
  });

  test("send: to nobody is lost in silence, also after a close", async () => {
    const { a, b, received } = pair();
    expect(a.send(Uint8Array.of(1), 9, "192.0.2.9", 2)).toBe("sent");
    a.send(Uint8Array.of(1), 9, "192.0.2.2", 2);
    b.close();
    await turn();
    expect(received).toEqual([]);
  });

  test("the observer sees, changes and drops", async () => {
    const { network, a, received } = pair();
    network.observe = (datagram) => (datagram[0] === 1 ? null : datagram.map((byte) => byte + 1));
    a.send(Uint8Array.of(1, 2), 1, "192.0.2.2", 2);
    await turn();
    expect(received).toEqual(["03 192.0.2.1 1"]);
  });

  test("full: nothing is sent until drain tells that there is room", () => {
    const { a } = pair();
    let drained = 0;
    a.onDrain(() => drained++);
    a.full = true;
    expect(a.send(Uint8Array.of(1), 1, "192.0.2.2", 2)).toBe("full");
    a.drain();
    expect(drained).toBe(1);
    expect(a.send(Uint8Array.of(1), 1, "192.0.2.2", 2)).toBe("sent");
  });
});
