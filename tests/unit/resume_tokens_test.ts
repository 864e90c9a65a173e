import { expect, test } from "bun:test";
import { ResumeTokens } from "../../lib/resume_tokens.ts";

const token = (byte: number): Uint8Array<ArrayBuffer> => new Uint8Array(32).fill(byte);

test("redeem() gives the session once", async () => {
  const tokens = new ResumeTokens(1_000);
  await tokens.issue(5, token(1));
  expect(await tokens.redeem(token(2), 0)).toBeNull();
  expect(await tokens.redeem(token(1), 0)).toBe(5);
  expect(await tokens.redeem(token(1), 0)).toBeNull();
});

test("redeem() gives a token tried by two at once to one of them", async () => {
  const tokens = new ResumeTokens(1_000);
  await tokens.issue(5, token(1));
  const both = await Promise.all([tokens.redeem(token(1), 0), tokens.redeem(token(1), 0)]);
  expect(both.toSorted()).toEqual([5, null]);
});

test("issue() makes the session's former token worthless", async () => {
  const tokens = new ResumeTokens(1_000);
  await tokens.issue(5, token(1));
  await tokens.issue(5, token(2));
  expect(await tokens.redeem(token(1), 0)).toBeNull();
  expect(await tokens.redeem(token(2), 0)).toBe(5);
});

test("a token's life starts to run when the connection is lost", async () => {
  const tokens = new ResumeTokens(1_000);
  await tokens.issue(5, token(1));
  await tokens.issue(6, token(2));
  tokens.startExpiry(5, 10_000);
  tokens.startExpiry(6, 10_000);
  expect(await tokens.redeem(token(1), 10_999)).toBe(5);
  expect(await tokens.redeem(token(2), 11_000)).toBeNull();
});

test("stopExpiry() lets a token live on with its connection", async () => {
  const tokens = new ResumeTokens(1_000);
  await tokens.issue(5, token(1));
  tokens.startExpiry(5, 10_000);
  tokens.stopExpiry(5);
  expect(await tokens.redeem(token(1), 99_000)).toBe(5);
});

test("forget() makes the token of an ended session worthless", async () => {
  const tokens = new ResumeTokens(1_000);
  await tokens.issue(5, token(1));
  tokens.forget(5);
  tokens.forget(6);
  expect(await tokens.redeem(token(1), 0)).toBeNull();
});
