import { expect, test } from "bun:test";
import { probePathMtu, probeTls, probeUdp } from "../../lib/check_network.ts";
import type { RunCommand } from "../../lib/command.ts";

/** A path that carries packets of up to `mtu` bytes, and says so or not; counts the pings. */
function path(mtu: number, says: boolean): { run: RunCommand; pings: () => number } {
  let pings = 0;
  const run: RunCommand = async (argv) => {
    pings++;
    const bytes = Number(argv[argv.indexOf("-s") + 1]) + 28;
    const hint = bytes > mtu && says ? `From 192.0.2.1 Frag needed and DF set (mtu = ${mtu})\n` : "";
    const received = bytes > mtu ? 0 : 2;
    return {
      status: 0,
      stdout: `${hint}2 packets transmitted, ${received} received, time 200ms\n`,
      stderr: "",
    };
  };
  return { run, pings: () => pings };
}

test("probePathMtu: searches through a black hole, and takes a router's word", async () => {
  for (const mtu of [1280, 1281, 1399, 1492, 1499]) {
    expect(await probePathMtu("192.0.2.1", path(mtu, false).run)).toBe(mtu);
  }
  for (const mtu of [1000, 1400]) {
    const said = path(mtu, true);
    expect([await probePathMtu("192.0.2.1", said.run), said.pings()]).toEqual([mtu, 2]);
  }
  expect(await probePathMtu("192.0.2.1", path(9000, true).run)).toBe(1500);
  expect(await probePathMtu("192.0.2.1", path(1000, false).run)).toBeNull();
});

test("probeTls: a server that accepts and says nothing, and one that is not there", async () => {
  const silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  const endpoint = { host: "127.0.0.1", port: silent.port };
  try {
    const stalled = probeTls(endpoint, "127.0.0.1", 200);
    expect(stalled).rejects.toThrow("TCP is open, but no TLS handshake: no answer within 200 ms");
    await stalled.catch(() => undefined);
  } finally {
    silent.stop(true);
  }
  const gone = probeTls(endpoint, "127.0.0.1", 2_000);
  expect(gone).rejects.toThrow("no TCP connection: ECONNREFUSED");
  await gone.catch(() => undefined);
});

test("probeUdp: a port without a listener refuses, another keeps silent", async () => {
  const socket = await Bun.udpSocket({ hostname: "127.0.0.1" });
  const endpoint = { host: "127.0.0.1", port: socket.port };
  expect(await probeUdp(endpoint)).toBe("silence");
  socket.close();
  expect(await probeUdp(endpoint)).toBe("refused");
});
