/** `service install|remove` with the real executables, into a folder of the test: written, printed, not replaced, removed. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tryCommand } from "./harness/command.ts";
import { executable } from "./harness/omail.ts";
import { timeoutSeconds } from "./harness/timing.ts";

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "omail-service-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const service = (role: "server" | "client", ...args: readonly string[]) =>
  tryCommand([executable(role), "service", ...args], { cwd: directory });

for (const role of ["server", "client"] as const) {
  test(`omail-${role} service: install, install again, remove, remove again`, async () => {
    const path = join(directory, `omail-${role}.service`);
    const where = ["--unit-dir", directory, "--config", "/etc/omail/test.toml"];
    const printed = await service(role, "install", "--print", ...where);
    expect(existsSync(path)).toBe(false);
    for (let turn = 0; turn < 2; turn++) {
      const done = await service(role, "install", ...where);
      expect(done).toMatchObject({ status: 0, stderr: "" });
      expect(done.stdout).toContain('Write "/etc/omail/test.toml" first (mode 0600)');
    }
    expect(await Bun.file(path).text()).toBe(printed.stdout);
    expect(statSync(path).mode & 0o777).toBe(0o644);
    expect(printed.stdout).toContain(`ExecStart=${executable(role)} `);
    expect(await service(role, "remove", "--unit-dir", directory)).toMatchObject({ status: 0, stderr: "" });
    expect(existsSync(path)).toBe(false);
    expect(await service(role, "remove", "--unit-dir", directory)).toMatchObject({
      status: 0,
      stdout: `There is no "${path}"\n`,
    });
  });

  test(`omail-${role} service: what somebody else wrote is left alone, and wrong paths are refused`, async () => {
    const path = join(directory, `omail-${role}-own.service`);
    writeFileSync(path, "[Service]\n");
    for (const action of ["install", "remove"]) {
      const refused = await service(role, action, "--unit-dir", directory, "--tun", "own");
      expect(refused).toMatchObject({ status: 2, stdout: "" });
      expect(refused.stderr).toContain(path);
    }
    expect(await Bun.file(path).text()).toBe("[Service]\n");
    const spaces = await service(role, "install", "--unit-dir", directory, "--config", "/etc/a b.toml");
    expect(spaces).toMatchObject({ status: 2 });
    expect(spaces.stderr).toContain('"/etc/a b.toml"');
    const missing = await service(role, "install", "--unit-dir", join(directory, "none"));
    expect(missing.status).toBe(1);
    expect(missing.stderr).toContain("ENOENT");
  });
}

test(
  "a server with the capabilities of its unit is found by the commands of an administrator",
  async () => {
    // its first process, as that of a machine, has rights that the server has not, so it cannot be looked at
    const limited = "setpriv --bounding-set=-all,+net_admin,+net_bind_service --inh-caps=-all --no-new-privs";
    const server = `${executable("server")} run --state-dir ${directory}/state --log-level warn`;
    const asking = `${executable("server")} reload --state-dir ${directory}/state`;
    const script =
      `ip link set lo up; ${limited} ${server} & pid=$!; ` +
      `for i in $(seq 100); do ${asking} 2>/dev/null && break; sleep 0.1; done; ` +
      `grep CapEff /proc/$pid/status; kill $pid; wait $pid`;
    const machine = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    const { stdout, status } = await tryCommand([...machine, "bash", "-c", script], {
      env: { OMAIL_PASSWORD: "correct horse battery staple" },
      limitMs: timeoutSeconds(30),
    });
    expect({ stdout, status }).toEqual({
      stdout: expect.stringMatching(/^configuration reloaded\nCapEff:\s+0000000000001000\n$/),
      status: 0,
    });
  },
  timeoutSeconds(40),
);
