/** Counters of drops by reason. */

import { expect, test } from "bun:test";
import { DropCounter } from "../../lib/drop_counter.ts";
import { DROP_REASONS } from "../../lib/errors.ts";

test("DropCounter: shows the reasons that occurred, with their counts", () => {
  const drops = new DropCounter();
  expect(drops.snapshot()).toEqual({});
  drops.add("decrypt-failed");
  drops.add("no-session", 5);
  drops.add("decrypt-failed");
  expect(drops.snapshot()).toEqual({ "decrypt-failed": 2, "no-session": 5 });
});

test("DropCounter: knows every reason", () => {
  const drops = new DropCounter();
  for (const reason of DROP_REASONS) drops.add(reason);
  expect(Object.keys(drops.snapshot()).toSorted()).toEqual(DROP_REASONS.toSorted());
});

test("DropCounter.snapshot: a copy that later drops do not change", () => {
  const drops = new DropCounter();
  drops.add("no-key");
  const before = drops.snapshot();
  drops.add("no-key");
  expect(before).toEqual({ "no-key": 1 });
});
