import { describe, expect, test } from "bun:test";
import type { SessionConfig } from "../../lib/control_message.ts";
import { OmailError } from "../../lib/errors.ts";
import { checkPushedConfig } from "../../lib/pushed_config.ts";

const CONFIG: SessionConfig = {
  sessionId: 1,
  addresses: ["10.8.0.2/24", "fd08:8::2/64"],
  mtu: 1420,
  routes: ["192.168.7.0/24", "0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1"],
  dns: ["10.8.0.1", "fd08:8::1"],
  timers: { keepaliveMs: 10_000, sessionTimeoutMs: 60_000, rekeyAfterMs: 120_000 },
  features: { offload: false },
};
const SERVER = "203.0.113.2";

function refused(changed: Partial<SessionConfig>, wanted: readonly string[] = []): string {
  try {
    checkPushedConfig({ ...CONFIG, ...changed }, SERVER, wanted);
    return "";
  } catch (error) {
    expect(error).toBeInstanceOf(OmailError);
    return (error as Error).message;
  }
}

describe("checkPushedConfig", () => {
  test("lets sense through, default routes in whole and in halves too", () => {
    expect(refused({})).toBe("");
  });

  for (const route of ["203.0.113.2/32", "203.0.113.0/24", "192.0.0.0/4"]) {
    test(`a route that holds the server itself is refused by name: ${route}`, () => {
      expect(refused({ routes: ["10.1.0.0/16", route] })).toMatch(
        new RegExp(`^Cannot use the server's route "${route}": expected a network without .*"203.0.113.2"`),
      );
    });
  }

  test("not if the user asked for that network: the server's address is cut out", () => {
    expect(refused({ routes: ["203.0.113.0/24"] }, ["203.0.113.0/24"])).toBe("");
    expect(refused({ routes: ["203.0.113.0/25"] }, ["203.0.112.0/20"])).toBe("");
  });

  for (const route of ["127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "fe80::/64", "ff02::/16"]) {
    test(`a route that nobody routes is refused by name: ${route}`, () => {
      expect(refused({ routes: [route] })).toStartWith(`Cannot use the server's route "${route}"`);
    });
  }

  for (const dns of ["127.0.0.53", "0.0.0.0", "224.0.0.251", "::1"]) {
    test(`a DNS server that is not behind the tunnel is refused by name: ${dns}`, () => {
      expect(refused({ dns: [dns] })).toStartWith(`Cannot use the server's DNS server "${dns}"`);
    });
  }

  for (const address of ["127.0.0.1/24", "10.8.0.2/7", "fd08::2/15", "239.0.0.1/24"]) {
    test(`an inner address that cannot be one is refused by name: ${address}`, () => {
      expect(refused({ addresses: [address] })).toStartWith(
        `Cannot use the server's inner address "${address}"`,
      );
    });
  }
});
