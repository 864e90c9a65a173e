import { expect, test } from "bun:test";
import fc from "fast-check";
import { UsageError } from "../../lib/errors.ts";
import { isPem, readPem, writePem } from "../../lib/pem.ts";
import { bytes, check } from "../support/property.ts";

test("writePem() then readPem() gives the block back", () => {
  check(
    fc.property(bytes(1, 300), fc.constantFrom("CERTIFICATE", "X509 CRL", "PRIVATE KEY"), (der, label) => {
      const pem = writePem({ label, der });
      expect(isPem(pem)).toBe(true);
      expect(pem.split("\n").every((line) => line.length <= 64)).toBe(true);
      expect(readPem(`some text\n${pem}`, "it")).toEqual([{ label, der }]);
    }),
  );
});

test("readPem() reads several blocks in their order", () => {
  const first = { label: "CERTIFICATE", der: Uint8Array.of(1) };
  const second = { label: "CERTIFICATE", der: Uint8Array.of(2) };
  expect(readPem(writePem(first) + writePem(second), "it")).toEqual([first, second]);
});

test("readPem() refuses every truncated prefix and does not repeat it", () => {
  const pem = writePem({ label: "PRIVATE KEY", der: Uint8Array.of(...Array(100).keys()) });
  for (let length = 0; length < pem.length - 1; length++) {
    expect(() => readPem(pem.slice(0, length), "the key")).toThrow(/^Cannot read the key: (?!.*BwgJCg)/);
  }
});

test("readPem() refuses what is encrypted, empty or no base64", () => {
  for (const body of ["Proc-Type: 4,ENCRYPTED\n\nAAAA", "", "A", "AA=A"]) {
    expect(() =>
      readPem(`-----BEGIN RSA PRIVATE KEY-----\n${body}\n-----END RSA PRIVATE KEY-----`, "it"),
    ).toThrow(UsageError);
  }
});

test("readPem() throws nothing but UsageError on any text", () => {
  check(
    fc.property(fc.string(), fc.string(), (a, b) => {
      try {
        readPem(`-----BEGIN X-----${a}-----END X-----${b}`, "it");
      } catch (error) {
        expect(error).toBeInstanceOf(UsageError);
      }
    }),
  );
});
