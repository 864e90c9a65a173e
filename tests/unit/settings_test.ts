import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSettings } from "../../cli/settings.ts";
import { createPasswordReader, argumentWarning } from "../../cli/password.ts";
import { readServerSettings } from "../../lib/config_server.ts";
import { Secret } from "../../lib/secret.ts";

const directory = mkdtempSync(join(tmpdir(), "omail-settings-"));
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string, mode = 0o600): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

describe("openSettings()", () => {
  test("lets flags win over the environment, and that over the file", async () => {
    const config = file("a.toml", 'log-level = "error"\npassword = "file"\nmtu = 1300\n');
    const env = { OMAIL_LOG: "debug", OMAIL_PASSWORD: "environment", OMAIL_CONFIG: config };
    const { values } = readServerSettings(await openSettings({ "log-level": "warn" }, env).layers());
    expect(values["log-level"]).toBe("warn");
    expect(values.password?.reveal()).toBe("environment");
    expect(values.mtu).toBe(1300);
  });

  test("removes the password from the environment", () => {
    const env: NodeJS.ProcessEnv = { OMAIL_PASSWORD: "x" };
    openSettings({}, env);
    expect(env).toEqual({});
  });

  test("reads the file anew each time, and keeps what came from elsewhere", async () => {
    const config = file("b.toml", "mtu = 1300\n");
    const source = openSettings({ config, nat: true }, { OMAIL_PASSWORD: "x" });
    expect(readServerSettings(await source.layers()).values.mtu).toBe(1300);
    file("b.toml", "mtu = 1350\n");
    const { values } = readServerSettings(await source.layers());
    expect(values).toMatchObject({ mtu: 1350, nat: true });
    expect(values.password?.reveal()).toBe("x");
  });

  test("names a variable that is set but empty, a wrong value of one, and a missing file", async () => {
    expect(() => openSettings({}, { OMAIL_LOG: "" })).toThrow('OMAIL_LOG=""');
    expect(() => openSettings({}, { OMAIL_CONFIG: "" })).toThrow('OMAIL_CONFIG=""');
    const wrong = await openSettings({}, { OMAIL_LOG: "loud" }).layers();
    expect(() => readServerSettings(wrong)).toThrow('OMAIL_LOG: Cannot use "loud"');
    const missing = openSettings({ config: join(directory, "none.toml") }, {});
    await expect(missing.layers()).rejects.toThrow(/none\.toml" \(ENOENT\)/);
  });

  test("warns when others can read a password in the file", () => {
    const warning = (name: string, text: string, mode: number) =>
      openSettings({ config: file(name, text, mode) }, {}).warning();
    expect(warning("c.toml", 'password = "x"\n', 0o644)).toContain("chmod 600");
    expect(warning("d.toml", 'password = "x"\n', 0o600)).toBeNull();
    expect(warning("e.toml", "mtu = 1300\n", 0o644)).toBeNull();
    expect(openSettings({}, {}).warning()).toBeNull();
  });
});

describe("createPasswordReader()", () => {
  test("takes the setting, then the file of the setting, then the credential", () => {
    file("omail-password", "credential\n");
    const reader = createPasswordReader({ CREDENTIALS_DIRECTORY: directory });
    expect(reader.read({ password: new Secret("a") })?.reveal()).toBe("a");
    expect(reader.read({ "password-file": file("p", "b\r\n") })?.reveal()).toBe("b");
    expect(reader.read({})?.reveal()).toBe("credential");
    expect(createPasswordReader({}).read({})).toBeNull();
    expect(createPasswordReader({ CREDENTIALS_DIRECTORY: "/nonexistent" }).read({})).toBeNull();
  });

  test("refuses a file that is missing, empty or of several lines, without showing it", () => {
    const reader = createPasswordReader({});
    expect(() => reader.read({ "password-file": join(directory, "none") })).toThrow("ENOENT");
    expect(() => reader.read({ "password-file": file("q", "\n") })).toThrow("empty password");
    expect(() => reader.read({ "password-file": file("r", "one\ntwo\n") })).toThrow(/^(?!.*two).*one line/);
  });
});

test("argumentWarning() warns about a password by flag only", async () => {
  const byFlag = openSettings({ password: "x" }, {});
  expect(argumentWarning(readServerSettings(await byFlag.layers()), byFlag.flags)).toContain(
    "OMAIL_PASSWORD",
  );
  const byEnvironment = openSettings({}, { OMAIL_PASSWORD: "x" });
  expect(argumentWarning(readServerSettings(await byEnvironment.layers()), byEnvironment.flags)).toBeNull();
});
