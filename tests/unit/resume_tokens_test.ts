import { expect, test } from "bun:test";
import { ResumeTokens } from "../../lib/resume_tokens.ts";

const token = (byte: number): Uint8Array<ArrayBuffer> => new Uint8Array(32).fill(byte);

test("redeem() gives the session once", async () => {
  const tokens = new ResumeTokens(1_000);
  await tokens.issue(5, token(1));
  expect(await tokens.redeem(token(2), 0)).toBeNull();
  expect(await tokens.redeem(token(1), 0)).toEqual({ sessionId: 5, reused: false });
  expect(await tokens.redeem(token(1), 0)).toEqual({ sessionId: 5, reused: true });
});

test("redeem() gives a token tried by two at once to one of them", async () => {
  const tokens = new ResumeTokens(1_000);
  await tokens.issue(5, token(1));
  const both = await Promise.all([tokens.redeem(token(1), 0), tokens.redeem(token(1), 0)]);
  expect(both.map((redeemed) => redeemed?.reused).toSorted()).toEqual([false, true]);
});

test("issue() makes the session's former token worthless", async () => {
  const tokens = new ResumeTokens(1_000);
  await tokens.issue(5, token(1));
  await tokens.issue(5, token(2));
  expect(await tokens.redeem(token(1), 0)).toBeNull();
  expect(await tokens.redeem(token(2), 0)).toEqual({ sessionId: 5, reused: false });
});

test("a token's life starts to run when the connection is lost", async () => {
  const tokens = new ResumeTokens(1_000);
  await tokens.issue(5, token(1));
  await tokens.issue(6, token(2));
  tokens.startExpiry(5, 10_000);
  tokens.startExpiry(6, 10_000);
  expect(await tokens.redeem(token(1), 10_999)).toEqual({ sessionId: 5, reused: false });
  expect(await tokens.redeem(token(2), 11_000)).toBeNull();
});

test("stopExpiry() lets a token live on with its connection", async () => {
  const tokens = new ResumeTokens(1_000);
  await tokens.issue(5, token(1));
  tokens.startExpiry(5, 10_000);
  tokens.stopExpiry(5);
  expect(await tokens.redeem(token(1), 99_000)).toEqual({ sessionId: 5, reused: false });
});

test("forget() makes the token of an ended session worthless", async () => {
  const tokens = new ResumeTokens(1_000);
  await tokens.issue(5, token(1));
  tokens.forget(5);
  tokens.forget(6);
  expect(await tokens.redeem(token(1), 0)).toBeNull();
});

test("a used token is known when it comes again, also after newer ones, until the session ends", async () => {
  const tokens = new ResumeTokens(1_000);
  for (let i = 1; i <= 20; i++) {
    await tokens.issue(5, token(i));
    expect(await tokens.redeem(token(i), 0)).toEqual({ sessionId: 5, reused: false });
  }
  await tokens.issue(5, token(99));
  expect(await tokens.redeem(token(3), 0)).toEqual({ sessionId: 5, reused: true });
  tokens.forget(5);
  for (const byte of [3, 20, 99]) expect(await tokens.redeem(token(byte), 0)).toBeNull();
});
