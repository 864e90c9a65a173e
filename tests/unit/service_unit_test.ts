import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { UsageError } from "../../lib/errors.ts";
import { UNIT_MARK, unitName, type UnitOptions, unitText } from "../../lib/service_unit.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratch = scratchDirectories();

const SERVER: UnitOptions = {
  role: "server",
  executable: "/usr/local/bin/omail-server",
  config: "/etc/omail/server.toml",
  tun: "omail0",
  stateDir: "/var/lib/omail",
};
const CLIENT: UnitOptions = { ...SERVER, role: "client", executable: "/usr/local/bin/omail-client" };

/** Largest exposure that `systemd-analyze security` may give: below it, it says "OK". */
const MAX_EXPOSURE = 3.0;

describe("unitText()", () => {
  test("starts, reloads and cleans up the instance that it names", () => {
    const text = unitText({ ...SERVER, tun: "office" });
    expect(text).toStartWith(UNIT_MARK);
    const flags = "--config /etc/omail/server.toml --tun office --state-dir /var/lib/omail";
    expect(text).toContain(`ExecStart=/usr/local/bin/omail-server run ${flags}\n`);
    expect(text).toContain(`ExecStopPost=/usr/local/bin/omail-server down ${flags}\n`);
    expect(text).toContain("ExecReload=");
    expect(unitText(CLIENT)).not.toContain("ExecReload=");
  });

  test("refuses a path that a unit would read otherwise", () => {
    for (const config of [
      "/etc/a b.toml",
      "/etc/%i.toml",
      "relative.toml",
      "/etc/$x",
      "/etc/a\nExecStart=/bin/sh",
    ])
      expect(() => unitText({ ...SERVER, config })).toThrow(UsageError);
  });

  test("has a name of its own for another interface", () => {
    expect(unitName("server", "omail0", "omail0")).toBe("omail-server.service");
    expect(unitName("client", "office", "omail0")).toBe("omail-client-office.service");
  });

  test.skipIf(Bun.which("systemd-analyze") === null)(
    "systemd takes every line, and finds little exposed",
    async () => {
      for (const options of [SERVER, CLIENT]) {
        const path = join(scratch(), unitName(options.role, "omail0", "omail0"));
        await Bun.write(path, unitText(options));
        const run = (...args: string[]) => {
          const { stdout, stderr } = Bun.spawnSync(["systemd-analyze", ...args, path]);
          return `${stdout}${stderr}`;
        };
        const said = run("security", "--offline=true", "--no-pager");
        const exposure = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(said)?.[1]);
        console.log(`exposure of the ${options.role}'s unit: ${exposure}`);
        expect(exposure).toBeLessThan(MAX_EXPOSURE);
        expect(said).not.toMatch(/unknown|invalid|failed to parse/i);
      }
    },
  );
});
