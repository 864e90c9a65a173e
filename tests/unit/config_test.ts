import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { parseConfigText, resolveSettings, type SettingsLayer } from "../../lib/config.ts";
import { mtuField, secretField, textField } from "../../lib/config_field.ts";
import { UsageError } from "../../lib/errors.ts";

const schema = v.strictObject({
  mtu: v.optional(mtuField, "auto"),
  name: v.optional(textField),
  password: v.optional(secretField),
  "password-file": v.optional(textField),
  users: v.optional(v.array(v.strictObject({ name: textField, password: secretField })), []),
});

function layer(values: Record<string, unknown>, name = "flag"): SettingsLayer {
  return { values, describe: (path) => `${name} ${path.join(".")}` };
}

describe("resolveSettings()", () => {
  test("takes the first layer that has a key, then the default", () => {
    const flags = layer({ mtu: "1300" });
    const file = layer({ mtu: 1400, name: "x" }, "file");
    const { values, layerOf } = resolveSettings(schema, [flags, file]);
    expect(values.mtu).toBe(1300);
    expect(values.name).toBe("x");
    expect(layerOf("mtu")).toBe(flags);
    expect(layerOf("name")).toBe(file);
    expect(layerOf("users")).toBeUndefined();
    expect(resolveSettings(schema, []).values.mtu).toBe("auto");
  });

  test("lets a password of one layer hide the password file of a later one", () => {
    const { values } = resolveSettings(schema, [layer({ "password-file": "/a" }), layer({ password: "b" })]);
    expect(values.password).toBeUndefined();
    expect(values["password-file"]).toBe("/a");
  });

  test("refuses a password and a password file in one layer", () => {
    expect(() => resolveSettings(schema, [layer({ password: "a", "password-file": "/a" })])).toThrow(
      /password.*password-file/,
    );
  });

  test("names an unknown key, its place and the nearest right one", () => {
    expect(() => resolveSettings(schema, [layer({ mut: 1 }, "f.toml:1:")])).toThrow(
      new UsageError('f.toml:1: mut: Unknown key "mut", did you mean "mtu"?'),
    );
  });

  test("names an unknown key inside a list of tables", () => {
    const users = [{ name: "a", password: "b", pasword: "c" }];
    expect(() => resolveSettings(schema, [layer({ users })])).toThrow(
      new UsageError('flag users.0.pasword: Unknown key "pasword", did you mean "password"?'),
    );
  });

  test("names a missing key inside a list of tables", () => {
    expect(() => resolveSettings(schema, [layer({ users: [{ name: "a" }] })])).toThrow(/users\.0\.password/);
  });

  test("never shows a password in an error", () => {
    const wrong = "secret".repeat(1000);
    expect(() => resolveSettings(schema, [layer({ password: wrong })])).toThrow(
      new UsageError("flag password: Cannot use the password: expected at most 1024 characters"),
    );
    expect(() => resolveSettings(schema, [layer({ users: "secret" })])).toThrow(
      new UsageError("flag users: Expected a list"),
    );
  });
});

describe("parseConfigText()", () => {
  test("gives line and column of what is not TOML", async () => {
    await expect(parseConfigText("a = 1\nb = = 2\n", "f.toml")).rejects.toThrow(
      /^f\.toml:2:\d+: Cannot read the file as TOML/,
    );
  });

  test("tells the line of a key for later errors", async () => {
    const text = '# mtu = 1\nname = "x"\n\nmtu = 12\n';
    const file = await parseConfigText(text, "f.toml");
    expect(() => resolveSettings(schema, [file])).toThrow(
      new UsageError('f.toml:4: mtu: Cannot use "12": expected a whole number from 576 to 9000'),
    );
  });

  test("tells the line inside the right one of several tables", async () => {
    const text = '[[users]]\nname = "a"\npassword = "x"\n[[users]]\nname = "b"\npassword = ""\n';
    const file = await parseConfigText(text, "f.toml");
    expect(() => resolveSettings(schema, [file])).toThrow(/^f\.toml:6: users\.1\.password: /);
  });
});
