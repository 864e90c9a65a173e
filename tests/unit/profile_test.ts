import { expect, test } from "bun:test";
import fc from "fast-check";
import { readClientSettings } from "../../lib/config_client.ts";
import { UsageError } from "../../lib/errors.ts";
import { decodeProfile, encodeProfile, encodeProfileLine, type Profile } from "../../lib/profile.ts";
import { check } from "../support/property.ts";

const profile: Profile = {
  name: "alice",
  server: ["vpn.example.org:51820", "[2001:db8::1]:443"],
  user: "alice",
  auth: "cert",
  ca: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
  cert: "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n",
  key: "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n",
  "split-tunnel": ["10.8.0.0/24"],
  "no-dns": true,
};

test("decodeProfile() reads what encodeProfile() wrote", () => {
  expect(decodeProfile(encodeProfile(profile), "it")).toEqual(profile);
  expect(decodeProfile(encodeProfileLine(profile), "it")).toEqual(profile);
  expect(decodeProfile(`\uFEFF${encodeProfile(profile)}`, "it")).toEqual(profile);
  expect(encodeProfileLine(profile)).not.toMatch(/\p{C}/u);
});

test("every key of a profile but its name is a setting of the client", () => {
  const { name: _name, ...settings } = profile;
  const { values } = readClientSettings([{ values: settings, describe: String }]);
  expect(values.server?.map(({ host }) => host)).toEqual(["vpn.example.org", "2001:db8::1"]);
  expect(values).toMatchObject({ auth: "cert", "no-dns": true, key: profile.key! });
});

test("decodeProfile() refuses every truncated prefix and tells no secret", () => {
  const text = encodeProfile(profile).trimEnd();
  for (let length = 0; length < text.length; length++) {
    expect(() => decodeProfile(text.slice(0, length), 'profile "a.json"')).toThrow(
      /^Cannot read profile "a.json": it is cut off or damaged, expected JSON$/,
    );
  }
});

test("decodeProfile() names another version, a strange file, a missing key and an unknown one", () => {
  const change = (changes: object) => () =>
    decodeProfile(JSON.stringify({ "omail-profile": 1, ...profile, ...changes }), '"p"');
  expect(change({ "omail-profile": 2 })).toThrow(/"p": it has version "2", expected 1; take an omail-client/);
  expect(change({ "omail-profile": "1" })).toThrow(
    /expected a profile that omail-server profile has written/,
  );
  for (const strange of ["null", "[]", "7", '"x"', "{}"]) {
    expect(() => decodeProfile(strange, '"p"')).toThrow(/expected a profile that/);
  }
  expect(change({ server: [] })).toThrow(/server: expected at least one server/);
  expect(change({ server: undefined })).toThrow(/server: it is missing/);
  expect(change({ name: "../../etc/cron.d/x" })).toThrow(/name: expected a plain name/);
  expect(change({ excludes: ["10.0.0.0/8"] })).toThrow(/Unknown key "excludes".*exclude/);
  expect(change({ key: undefined })).toThrow(/only one of "cert" and "key"/);
  expect(change({ "no-dns": "yes" })).toThrow(/no-dns: expected true or false/);
  expect(() => decodeProfile(" ".repeat(300_000), '"p"')).toThrow(/longer than/);
});

test("decodeProfile() throws nothing but UsageError, and never the key, whatever a byte becomes", () => {
  const text = encodeProfile(profile);
  check(
    fc.property(fc.nat(text.length - 1), fc.string({ unit: "binary", maxLength: 3 }), (at, change) => {
      const changed = text.slice(0, at) + change + text.slice(at + 1);
      try {
        decodeProfile(changed, "it");
      } catch (error) {
        expect(error).toBeInstanceOf(UsageError);
        expect(String(error)).not.toContain("SECRET");
      }
    }),
    2000,
  );
  check(
    fc.property(fc.json(), (json) => {
      expect(() => decodeProfile(json, "it")).toThrow(UsageError);
    }),
  );
});
