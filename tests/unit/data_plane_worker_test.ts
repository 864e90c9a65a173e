import { expect, test } from "bun:test";
import { startWorkerDataPlane } from "../../lib/data_plane_worker.ts";
import type { StartData } from "../../lib/data_plane_message.ts";
import { SystemError } from "../../lib/errors.ts";

const start: Omit<StartData, "wakeFd"> = {
  kind: "start",
  role: "client",
  // No descriptor: only starting, failing and ending are looked at.
  tunFd: -1,
  tunOffload: false,
  bind: { host: "127.0.0.1", port: 0 },
  maxDatagramBytes: 1452,
  mtuBytes: 1420,
  engine: "web",
  keepaliveMs: 10_000,
};

test("startWorkerDataPlane() fails with the class and message of the other thread", async () => {
  const plane = startWorkerDataPlane({ ...start, bind: { host: "192.0.2.1", port: 9 } });
  await expect(plane.ready).rejects.toThrow(/192\.0\.2\.1/);
  await expect(plane.failure).rejects.toThrow(SystemError);
  await plane.stop();
});
