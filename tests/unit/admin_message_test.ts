import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  errorFromReply,
  parseClientStatus,
  parseDoneReply,
  parseEmptyRequest,
  parseKickRequest,
  parseServerStatus,
} from "../../lib/admin_message.ts";
import { NotRunningError, OmailError, PrivilegeError, RefusedError, UsageError } from "../../lib/errors.ts";
import { check } from "../support/property.ts";

describe("parseKickRequest()", () => {
  test("takes a session or a user", () => {
    expect(parseKickRequest({ session: 4_294_967_295 })).toEqual({ session: 4_294_967_295 });
    expect(parseKickRequest({ user: "ann" })).toEqual({ user: "ann" });
  });

  test.each([
    [{}],
    [{ session: 0 }],
    [{ session: 2 ** 32 }],
    [{ session: 1.5 }],
    [{ user: "" }],
    [{ user: "a", session: 1 }],
    [null],
  ])("refuses %p", (body) => {
    expect(() => parseKickRequest(body)).toThrow(UsageError);
  });
});

test("parseEmptyRequest() refuses content", () => {
  expect(() => parseEmptyRequest({})).not.toThrow();
  expect(() => parseEmptyRequest({ now: true })).toThrow(UsageError);
});

test.each([
  [1, OmailError],
  [2, UsageError],
  [3, NotRunningError],
  [4, RefusedError],
  [5, PrivilegeError],
  [77, OmailError],
])("errorFromReply() makes the class of exit status %p", (exitStatus, ErrorClass) => {
  const error = errorFromReply({ error: "why", exitStatus });
  expect(error).toBeInstanceOf(ErrorClass);
  expect(error.message).toBe("why");
});

describe("parseServerStatus()", () => {
  const status = {
    tun: "omail0",
    address: ":51820",
    uptimeSeconds: 1,
    sessions: [],
    gone: [],
    totals: { rxBytes: 0, txBytes: 0, rxPackets: 0, txPackets: 0, drops: {} },
  };

  test("takes fields that a newer program added", () => {
    expect(parseServerStatus({ ...status, added: 1 })).toEqual(status);
  });

  test("names the place of what is missing", () => {
    const { totals: _, ...rest } = status;
    expect(() => parseServerStatus(rest)).toThrow("totals");
  });
});

test("replies of any kind give a value or an OmailError", () => {
  check(
    fc.property(fc.jsonValue(), (body) => {
      for (const parse of [
        parseDoneReply,
        parseServerStatus,
        parseClientStatus,
        errorFromReply,
        parseKickRequest,
      ]) {
        try {
          parse(body);
        } catch (error) {
          expect(error).toBeInstanceOf(OmailError);
        }
      }
    }),
  );
});
