import { expect, test } from "bun:test";
import fc from "fast-check";
import { MAX_NAME_LENGTH, nameProblem, userOf } from "../../lib/certificate_name.ts";
import { UsageError } from "../../lib/errors.ts";
import { check } from "../support/property.ts";

const nobody = { commonNames: [], emails: [], dnsNames: [] };

test("userOf() takes the common name, then an e-mail address, then a DNS name", () => {
  const all = { commonNames: ["alice"], emails: ["a@example.org"], dnsNames: ["laptop"] };
  expect(userOf(all)).toBe("alice");
  expect(userOf({ ...all, commonNames: [] })).toBe("a@example.org");
  expect(userOf({ ...nobody, dnsNames: ["laptop"] })).toBe("laptop");
  expect(userOf({ ...nobody, commonNames: ["Alice Smith"] })).toBe("Alice Smith");
});

test("userOf() gives the form that passwords know, NFKC", () => {
  expect(userOf({ ...nobody, commonNames: ["ｂｏｂ"] })).toBe("bob");
});

test("userOf() refuses nobody, two common names, paths and control characters, by name", () => {
  const of =
    (...commonNames: string[]) =>
    () =>
      userOf({ ...nobody, commonNames });
  expect(of()).toThrow(/names nobody/);
  expect(of("a", "b")).toThrow(/2 common names/);
  expect(of("../../etc/passwd")).toThrow(/"..\/..\/etc\/passwd" is a path/);
  for (const path of ["/root", "a\\b", ".", ".."]) expect(of(path)).toThrow(/is a path/);
  for (const odd of ["a\u0000b", "a\nb", "\u001b[31m", "a\u202eb", "a\u200bb"]) {
    expect(of(odd)).toThrow(/^the name holds control or invisible characters/);
  }
  expect(of("x".repeat(MAX_NAME_LENGTH + 1))).toThrow(/65 characters/);
  expect(of("-rf")).toThrow(/begins/);
  expect(of(" ")).toThrow(UsageError);
  // the slash appears only in its normal form
  expect(of("a\uff0fb")).toThrow(/is a path/);
});

test("nameProblem() lets nothing through that a terminal or a file name would read otherwise", () => {
  check(
    fc.property(fc.string({ unit: "binary" }), (name) => {
      if (nameProblem(name) !== null) return;
      expect(name).not.toMatch(/[\p{C}/\\]/u);
      expect(name.length).toBeWithin(1, MAX_NAME_LENGTH + 1);
    }),
  );
});
