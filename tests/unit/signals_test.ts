import { expect, test } from "bun:test";
import { handleSignals } from "../../lib/signals.ts";

test("handleSignals() asks for the end once, and leaves the next signal to the system", () => {
  const before = process.listenerCount("SIGTERM");
  const ends: string[] = [];
  const handlers = handleSignals((signal) => ends.push(signal));
  process.emit("SIGTERM", "SIGTERM");
  expect(ends).toEqual(["SIGTERM"]);
  expect(process.listenerCount("SIGTERM")).toBe(before);
  expect(process.listenerCount("SIGINT")).toBe(before);
  handlers.close();
});

test("handleSignals() tells of every hang-up, or takes it for the end", () => {
  let hangups = 0;
  const ends: string[] = [];
  const server = handleSignals(
    (signal) => ends.push(signal),
    () => hangups++,
  );
  process.emit("SIGHUP", "SIGHUP");
  process.emit("SIGHUP", "SIGHUP");
  server.close();
  expect([hangups, ends]).toEqual([2, []]);
  const client = handleSignals((signal) => ends.push(signal));
  process.emit("SIGHUP", "SIGHUP");
  client.close();
  expect(ends).toEqual(["SIGHUP"]);
});
