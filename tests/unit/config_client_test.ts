import { describe, expect, test } from "bun:test";
import type { SettingsLayer } from "../../lib/config.ts";
import { CLIENT_KEYS, makeClientConfig, readClientSettings } from "../../lib/config_client.ts";
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
      caFile: null,
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
      .filter((name) => name !== "config")
      .toSorted(),
  ).toEqual([...CLIENT_KEYS].toSorted());
});
