import { expect, test } from "bun:test";
import type { ToDataPlane } from "../../lib/data_plane_message.ts";
import { StatsRequests } from "../../lib/stats_requests.ts";

test("refresh() resolves with the answer to its own request", async () => {
  const posted: ToDataPlane[] = [];
  const requests = new StatsRequests({ post: (message) => posted.push(message), onMessage: () => undefined });
  let refreshed = false;
  const refresh = requests.refresh().then(() => (refreshed = true));
  requests.arrived(0);
  requests.arrived(99);
  await Bun.sleep(1);
  expect(refreshed).toBe(false);
  expect(posted).toEqual([{ kind: "get-stats", requestId: 1 }]);
  requests.arrived(1);
  expect(await refresh).toBe(true);
});

test("refresh() does not wait for a data plane that is silent", async () => {
  const requests = new StatsRequests({ post: () => undefined, onMessage: () => undefined });
  const startMs = performance.now();
  await requests.refresh();
  expect(performance.now() - startMs).toBeLessThan(2_000);
});
