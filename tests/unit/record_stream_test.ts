import { afterEach, expect, test } from "bun:test";
import { STREAM_IN_FLIGHT_BYTES } from "../../lib/limits.ts";
import { ControlHarness, until, untilConnected } from "../support/control_harness.ts";

const harness = new ControlHarness();
afterEach(() => harness.stop());

test("records travel by the control connection, under its own session only, with credit both ways", async () => {
  const server = await harness.server();
  const client = harness.client(server);
  await untilConnected(client);
  const id = client.connected[0]!.sessionId;
  const record = new Uint8Array(40).fill(7);
  const frames = new Uint8Array(44).fill(7);
  frames.set([0x80, 0, 0, 40]);
  client.data.emit({ kind: "tunnel-out", id, frames: frames.slice() });
  await until(() => server.data.of("tunnel-in").length === 1);
  expect(server.data.of("tunnel-in")).toEqual([{ kind: "tunnel-in", id, records: [record] }]);
  await until(() => client.data.of("tunnel-drained").length === 1);
  expect(client.data.of("tunnel-drained")).toEqual([{ kind: "tunnel-drained", id, bytes: 44 }]);
  server.data.emit({ kind: "tunnel-out", id, frames: frames.slice() });
  server.data.emit({ kind: "tunnel-out", id: id ^ 1, frames: frames.slice() });
  await until(() => client.data.of("tunnel-in").length === 1);
  expect(client.data.of("tunnel-in")[0]!.records).toEqual([record]);
});

test("records that are not taken in are held back by TCP, and flow on when they are", async () => {
  const server = await harness.server();
  const client = harness.client(server);
  await untilConnected(client);
  const id = client.connected[0]!.sessionId;
  const frames = new Uint8Array(64_004);
  frames.set([0x80, 0, 0xfa, 0]);
  const taken = () =>
    server.data.of("tunnel-in").reduce((sum, { records }) => sum + records.length * 64_000, 0);
  for (let i = 0; i < 400; i++) client.data.emit({ kind: "tunnel-out", id, frames: frames.slice() });
  await Bun.sleep(300);
  // one read of the socket may go beyond the bound
  expect(taken()).toBeLessThan(STREAM_IN_FLIGHT_BYTES + 2 * 1024 * 1024);
  let given = 0;
  await until(() => {
    const bytes = taken() - given;
    given += bytes;
    if (bytes > 0) server.data.emit({ kind: "tunnel-taken", id, bytes });
    return given === 400 * 64_000;
  });
});
