import { describe, expect, test } from "bun:test";
import type { SettingsLayer } from "../../lib/config.ts";
import { CLIENT_KEYS, loginOf, makeClientConfig, readClientSettings } from "../../lib/config_client.ts";
import { Secret } from "../../lib/secret.ts";
import { UP_FLAGS } from "../../cli/client_up.ts";

function config(values: Record<string, unknown>) {
  const layer: SettingsLayer = { values, describe: (path) => `--${path.join(".")}` };
  return makeClientConfig(readClientSettings([layer]).values, new Secret("x"));
}

describe("makeClientConfig()", () => {
  test("has the documented defaults", () => {
    expect(config({ server: "vpn.example" })).toMatchObject({
      servers: [{ host: "vpn.example", port: 51820 }],
      user: "default",
      tun: "omail0",
      mtuBytes: 1420,
      splitTunnel: null,
      excludes: [],
      allowLan: false,
      killSwitch: false,
      useDns: true,
      dns: null,
      ca: null,
      pins: [],
      certificate: null,
      method: "password",
      requestedAddresses: [],
    });
  });

  test("takes several servers, by comma or repeated", () => {
    const { servers } = config({ server: ["a:1,b", "[2001:db8::1]:443"] });
    expect(servers).toEqual([
      { host: "a", port: 1 },
      { host: "b", port: 51820 },
      { host: "2001:db8::1", port: 443 },
    ]);
  });

  test.each([
    [{}, "--server HOST:PORT"],
    [{ server: ":51820" }, "with a host"],
    [{ server: "a:0" }, '"0"'],
    [{ server: "a", "split-tunnel": "10.0.0.1/8" }, "10.0.0.0/8"],
    [{ server: "a", "tun-ip": ["10.8.0.2", "10.8.0.3"] }, "one IPv4 address"],
    [{ server: "a", keepalive: "10" }, '"10"'],
    [{ server: "a", dns: "dns.example" }, '"dns.example"'],
    [{ server: "a", dns: "10.0.0.1", "no-dns": true }, "expected one of them"],
    [{ server: "a", nat: true }, 'Unknown key "nat"'],
  ])("refuses %p with a word about %p", (values, words) => {
    expect(() => config(values)).toThrow(words);
  });

  test("asks for addresses without their length", () => {
    expect(config({ server: "a", "tun-ip": "10.8.0.9/24,fd00::9" }).requestedAddresses).toEqual([
      "10.8.0.9",
      "fd00::9",
    ]);
  });
});

test("CLIENT_KEYS are the flags of up", () => {
  expect(
    Object.keys(UP_FLAGS)
      .filter((name) => name !== "config" && name !== "profile")
      .toSorted(),
  ).toEqual([...CLIENT_KEYS].toSorted());
});

describe("log-in by certificate", () => {
  const FILES = { server: "vpn.example", cert: "a.pem", key: "a.key" };
  const login = (values: Record<string, unknown>, hasPassword = false) => {
    const { values: settings } = readClientSettings([{ values, describe: (path) => `--${path[0]}` }]);
    const { method, wantsPassword, certificate } = loginOf(settings, hasPassword);
    return [method, wantsPassword, certificate !== null];
  };

  test("goes by what is at hand, or by --auth", () => {
    expect(login({ server: "x" })).toEqual(["password", true, false]);
    expect(login({ ...FILES, ca: "ca.pem" })).toEqual(["certificate", false, true]);
    expect(login({ ...FILES, ca: "ca.pem" }, true)).toEqual(["password", true, true]);
    expect(login({ ...FILES, ca: "ca.pem", auth: "cert" }, true)).toEqual(["certificate", false, true]);
    expect(login({ ...FILES, auth: "both" })).toEqual(["password", true, true]);
    expect(login({ ...FILES, auth: "password" })).toEqual(["password", true, false]);
  });

  test("alone needs something that proves the server", () => {
    expect(() => login(FILES)).toThrow(/nothing would prove the server, expected --ca FILE or --pin/);
    expect(login({ ...FILES, pin: "ab".repeat(32) })).toEqual(["certificate", false, true]);
    expect(() => login({ ...FILES, pin: "ab" })).toThrow(/--pin: Cannot use "ab" as a fingerprint/);
  });

  test("refuses half a pair, and a mode without a certificate", () => {
    expect(() => login({ server: "x", cert: "a.pem" })).toThrow(/--cert alone: expected --key/);
    expect(() => login({ server: "x", key: "a.key" })).toThrow(/--key alone: expected --cert/);
    expect(() => login({ server: "x", auth: "cert" })).toThrow(
      /--auth: Cannot use "cert" without a certificate/,
    );
  });
});
