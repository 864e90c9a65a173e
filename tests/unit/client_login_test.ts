/** Which failures of a log-in end a client. */

import { describe, expect, test } from "bun:test";
import { goodbyeError, isFinal } from "../../lib/client_login.ts";
import {
  OmailError,
  ProtocolError,
  RefusedError,
  ServerFullError,
  UnknownHostError,
  UsageError,
} from "../../lib/errors.ts";

describe("isFinal", () => {
  const doubt = { hadSession: false, hasAlternative: false, doubtful: false };
  const final = (error: unknown, situation: Partial<typeof doubt> = {}): boolean => {
    const { hadSession, hasAlternative, doubtful } = { ...doubt, ...situation };
    return isFinal(error, hadSession, hasAlternative, doubtful);
  };

  test("a broken connection never is", () => {
    expect(final(new OmailError("reset by peer"))).toBe(false);
    expect(final(new Error("x"))).toBe(false);
  });

  test("wrong usage always is", () => {
    expect(final(new UsageError("x"), { hadSession: true, hasAlternative: true, doubtful: true })).toBe(true);
  });

  test("nonsense is at the first log-in, if there is no other server", () => {
    expect(final(new ProtocolError("x"))).toBe(true);
    expect(final(new ProtocolError("x"), { hasAlternative: true })).toBe(false);
    expect(final(new ProtocolError("x"), { hadSession: true })).toBe(false);
  });

  test("a refusal is, unless it may come from a stranger", () => {
    expect(final(new RefusedError("x"), { hadSession: true, hasAlternative: true })).toBe(true);
    expect(final(new RefusedError("x"), { doubtful: true })).toBe(false);
  });

  test("a full server is, if there is no other; an unknown name is at a start", () => {
    expect(final(new ServerFullError("x"))).toBe(true);
    expect(final(new ServerFullError("x"), { hasAlternative: true })).toBe(false);
    expect(final(new UnknownHostError("x"))).toBe(true);
    expect(final(new UnknownHostError("x"), { hadSession: true })).toBe(false);
  });
});

describe("goodbyeError", () => {
  test.each([
    ["refused", RefusedError],
    ["pool-exhausted", ServerFullError],
    ["protocol", ProtocolError],
    ["shutdown", OmailError],
  ] as const)("%s", (code, kind) => {
    const error = goodbyeError({ code, reason: "because" });
    expect(error.constructor).toBe(kind);
    expect(error.message).toEndWith(": because");
  });
});
