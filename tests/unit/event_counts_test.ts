import { expect, test } from "bun:test";
import { END_CAUSES, EventCounts, LOGIN_RESULTS, NamedCounts } from "../../lib/event_counts.ts";

test("NamedCounts counts each name of its list, and a snapshot is a copy", () => {
  const counts = new NamedCounts(["a", "b"]);
  counts.add("b");
  const before = counts.snapshot();
  counts.add("b");
  expect(before).toEqual({ a: 0, b: 1 });
  expect(counts.snapshot()).toEqual({ a: 0, b: 2 });
});

test("EventCounts tells of everything from the start, at 0", () => {
  const { logins, loginMethods, ends, bans } = new EventCounts().snapshot();
  expect(Object.keys(logins)).toEqual([...LOGIN_RESULTS]);
  expect(Object.keys(ends)).toEqual([...END_CAUSES]);
  expect(bans).toEqual({ address: 0, user: 0 });
  for (const counts of [logins, loginMethods, ends])
    expect(new Set(Object.values(counts))).toEqual(new Set([0]));
});
