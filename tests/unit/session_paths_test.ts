import { expect, test } from "bun:test";
import { Session } from "../../lib/session.ts";
import { SessionPaths } from "../../lib/session_paths.ts";

const KEEPALIVE_MS = 10_000;
const SERVER = { host: "192.0.2.1", port: 51820 };

function client(): { session: Session; paths: SessionPaths } {
  const session = new Session(1, true, SERVER, KEEPALIVE_MS, 1452, 0);
  return { session, paths: new SessionPaths(session, "auto", KEEPALIVE_MS, 0) };
}

function server(): { session: Session; paths: SessionPaths } {
  const session = new Session(1, true, null, KEEPALIVE_MS, 1452, 0);
  session.followsPath = true;
  return { session, paths: new SessionPaths(session, null, KEEPALIVE_MS, 0) };
}

test("a client moves to the stream when only asks of the stream are answered", () => {
  const { session, paths } = client();
  paths.streamChanged(true);
  let moved = null;
  for (let nowMs = 0; nowMs < 2_000; nowMs += 100) {
    const news = paths.tick(nowMs);
    moved ??= news.moved;
    for (const { path } of news.asks) paths.asked(path, nowMs, nowMs);
    paths.keepaliveReceived("tcp", nowMs, nowMs);
  }
  expect(moved).toMatchObject({ to: "tcp" });
  expect(session.path).toBe("tcp");
});

test("an echo proves a path only if the ask went the same way, and only once", () => {
  const { session, paths } = client();
  paths.streamChanged(true);
  for (let nowMs = 0; nowMs < 2_000; nowMs += 100) {
    for (const { path } of paths.tick(nowMs).asks) paths.asked(path, nowMs, nowMs);
    // the echo of what was asked by the stream comes by UDP, and old echoes come again
    paths.keepaliveReceived("udp", nowMs + 1, nowMs);
    paths.keepaliveReceived("tcp", null, nowMs);
  }
  expect(session.path).toBe("udp");
});

test("asks of the path in use are no probes, all others are", () => {
  const { paths } = client();
  paths.streamChanged(true);
  expect(paths.tick(0).asks).toEqual([
    { path: "udp", probe: false },
    { path: "tcp", probe: true },
  ]);
});

test("a server follows the path of the newest record, and tells once", () => {
  const { session, paths } = server();
  session.placeEndpoint(0, 5, SERVER);
  expect(paths.tick(0).moved).toBeNull();
  paths.streamChanged(true);
  session.placeEndpoint(0, 9, null);
  expect(session.path).toBe("tcp");
  expect(paths.tick(100).moved).toMatchObject({ to: "tcp" });
  expect(paths.tick(200).moved).toBeNull();
  // an older record that comes late by UDP moves nothing
  session.placeEndpoint(0, 7, SERVER);
  expect(session.path).toBe("tcp");
  session.placeEndpoint(1, 0, SERVER);
  expect(session.path).toBe("udp");
});

test("a server whose stream is lost goes back to the last address", () => {
  const { session, paths } = server();
  session.placeEndpoint(0, 1, SERVER);
  paths.streamChanged(true);
  session.placeEndpoint(0, 2, null);
  paths.streamChanged(false);
  expect([session.path, session.endpoint]).toEqual(["udp", SERVER]);
});

test("a server asks a silent client, says so after two keep-alives, and when it is back", () => {
  const { session, paths } = server();
  session.lastReceivedMs = 0;
  expect(paths.tick(9_900)).toEqual({ asks: [], moved: null, presence: null });
  expect(paths.tick(10_000).asks).toEqual([{ path: "udp", probe: false }]);
  expect(paths.tick(20_000).presence).toEqual({ alive: false, silentMs: 20_000 });
  session.lastReceivedMs = 30_000;
  expect(paths.tick(30_000).presence).toEqual({ alive: true, silentMs: 0 });
});

test("a new stream has taken nothing yet", () => {
  const { paths } = client();
  paths.streamChanged(true);
  while (paths.window.take(60_000, 0));
  paths.streamChanged(true);
  expect(paths.window.take(60_000, 0)).toBe(true);
});
