import { describe, expect, test } from "bun:test";
import type { SettingsLayer } from "../../lib/config.ts";
import { makeServerConfig, readServerSettings, requireUsers, SERVER_KEYS } from "../../lib/config_server.ts";
import { Secret } from "../../lib/secret.ts";
import { RUN_FLAGS } from "../../cli/server_run.ts";

function config(values: Record<string, unknown>, password: Secret | null = new Secret("x")) {
  const layer: SettingsLayer = { values, describe: (path) => `--${path.join(".")}` };
  return makeServerConfig(readServerSettings([layer]).values, password);
}

describe("makeServerConfig()", () => {
  test("has the documented defaults", () => {
    const made = config({});
    expect(made.listen).toEqual({ host: "", port: 51820 });
    expect(made.address4.text).toBe("10.8.0.1/24");
    expect(made).toMatchObject({
      tun: "omail0",
      address6: "random",
      mtuBytes: 1420,
      nat: false,
      pushRoutes: [],
      maxClients: 1000,
      stateDir: "/var/lib/omail",
      engine: "web",
      rekeyAfterMs: 120_000,
      keepaliveMs: 10_000,
      certificateFiles: null,
    });
    expect(made.users.map(({ name }) => name)).toEqual(["default"]);
  });

  test.each([
    [{ "tun-ip": "10.0.0.1", "tun-netmask": "255.255.255.0" }, "10.0.0.1/24"],
    [{ "tun-ip": "10.0.0.1", "tun-netmask": "255.255.0.0" }, "10.0.0.1/16"],
    [{ "tun-ip": "10.0.0.1" }, "10.0.0.1/24"],
    [{ "tun-ip": "10.0.0.1/30", "tun-netmask": "255.255.255.252" }, "10.0.0.1/30"],
  ])("reads the inner address of %p as %p", (values, text) => {
    expect(config(values).address4.text).toBe(text);
  });

  test.each([
    [{ "tun-ip": "10.0.0.1/24", "tun-netmask": "255.255.0.0" }, "--tun-netmask"],
    [{ "tun-ip": "10.0.0.0/24" }, "network's own address"],
    [{ "tun-ip": "10.0.0.1/31" }, "no room for clients"],
    [{ "tun-ip": "fd00::1/64" }, "--tun-ip6"],
    [{ "tun-ip": "10.0.1/24" }, '"10.0.1"'],
    [{ "tun-netmask": "255.0.255.0" }, '"255.0.255.0"'],
    [{ "tun-ip6": "10.0.0.1/24" }, "fd00:8::1/64"],
    [{ "tun-ip6": "fd00::/64" }, "network's own address"],
    [{ mtu: "1200" }, "at least 1280"],
    [{ cert: "a.pem" }, "expected --key with it"],
    [{ key: "a.pem" }, "expected --cert with it"],
    [{ engine: "fast" }, 'Cannot use "fast": expected web or sync'],
    [{ "rekey-after": "10ms" }, "expected 50ms to 24h"],
    [{ "max-clients": "0" }, "from 1 to 65534"],
    [{ "push-domain": "two words" }, '"two words"'],
  ])("refuses %p with a word about %p", (values, words) => {
    expect(() => config(values)).toThrow(words);
  });

  test("takes a small MTU when there is no IPv6", () => {
    expect(config({ mtu: "1200", "tun-ip6": "none" })).toMatchObject({ mtuBytes: 1200, address6: null });
  });

  test("joins the password with the users of the file, and refuses a name twice", () => {
    const users = [{ name: "ann", password: "y" }];
    expect(config({ users }).users.map(({ name }) => name)).toEqual(["default", "ann"]);
    expect(config({ users }, null).users.map(({ password }) => password?.reveal())).toEqual(["y"]);
    expect(() => config({ users: [...users, ...users] })).toThrow('"ann" twice');
  });
});

test("requireUsers() wants somebody who could log in, and says what to do", () => {
  requireUsers(config({}), () => {
    throw new Error("the database is not asked when the configuration has a user");
  });
  requireUsers(config({}, null), () => 1);
  expect(() => requireUsers(config({}, null), () => 0)).toThrow(
    /user add NAME.*OMAIL_PASSWORD.*--password-file.*\[\[users\]\]/,
  );
});

test("SERVER_KEYS are the flags of run, and the users", () => {
  const flags = Object.keys(RUN_FLAGS).filter((name) => name !== "config");
  expect([...flags, "policy", "users"].toSorted()).toEqual([...SERVER_KEYS].toSorted());
});

describe("log-in by certificate", () => {
  const auth = (values: Record<string, unknown>, hasAuthority = false, password: string | null = "x") => {
    const { values: settings } = readServerSettings([{ values, describe: (path) => `--${path[0]}` }]);
    return makeServerConfig(settings, password === null ? null : new Secret(password), hasAuthority).auth;
  };

  test("is off without an authority, and a choice of the client with one", () => {
    expect(auth({})).toMatchObject({ mode: "password", ca: null });
    expect(auth({}, true)).toMatchObject({ mode: "any", ca: "own", knownUsersOnly: false });
    expect(auth({ auth: "password" }, true)).toMatchObject({ mode: "password", ca: "own" });
    expect(auth({}, true, null).mode).toBe("any");
  });

  test("takes a company's authority, for known users unless said otherwise", () => {
    expect(auth({ ca: "/ca.pem", crl: "/crl.pem" }, true)).toEqual({
      mode: "any",
      ca: { ca: "/ca.pem", crl: "/crl.pem" },
      knownUsersOnly: true,
    });
    expect(auth({ ca: "/ca.pem", "cert-users": "all" }).knownUsersOnly).toBe(false);
  });

  test("refuses settings that contradict each other", () => {
    expect(() => auth({ auth: "cert" })).toThrow(/without a certificate authority.*cert init, or give --ca/);
    expect(() => auth({ crl: "x" }, true)).toThrow(/--crl alone/);
    expect(() => auth({ auth: "certs" }, true)).toThrow(/--auth: Cannot use "certs"/);
    expect(() => auth({ users: [{ name: "bob", auth: "cert" }] })).toThrow(/auth "cert" without/);
    expect(() => auth({ users: [{ name: "bob" }], auth: "both" }, true)).toThrow(/"bob" without a password/);
  });
});
