/** The audit log: who came, was refused and left, found again by queries; tampering is found; a full disk is survived. */

import { expect } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { command, tryCommand } from "./harness/command.ts";
import { type Network, SERVER_ADDRESS } from "./harness/network.ts";
import { serverState } from "./harness/certificates.ts";
import {
  DEFAULT_TUN,
  executable,
  type OmailProgram,
  PASSWORD,
  runToEnd,
  type ServerStatus,
  SPLIT_TUNNEL,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";

type Line = Readonly<Record<string, unknown>>;

async function show(server: OmailProgram<ServerStatus>, ...args: readonly string[]): Promise<Line[]> {
  const { stdout, stderr, status } = await server.control("audit", "show", "--json", ...args);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line);
}

function logFile(server: OmailProgram<ServerStatus>): string {
  const name = readdirSync(server.stateDir).find((file) => file.endsWith(".audit.jsonl"));
  return join(server.stateDir, name!);
}

const refusedLogin = (network: Network) =>
  runToEnd(network, network.client(0), "client", {
    args: ["--server", SERVER_ADDRESS, "--split-tunnel", SPLIT_TUNNEL, "--user", "eve", "--tun", "omail9"],
    password: "hunter2 hunter2",
  });

networkTest("audit: log-ins, refusals, ends and an operator's acts are found again", {}, async (network) => {
  const server = await startServer(network);
  const client = await startClient(network);
  expect((await refusedLogin(network)).status).toBe(4);
  expect((await server.control("kick", "default")).status).toBe(0);
  expect(await client.program.wait(timeoutSeconds(10))).toBe(4);
  await server.stop();
  const lines = await show(server);
  expect(lines.map(({ type }) => type)).toEqual([
    "started",
    "login",
    "refused",
    "disconnected",
    "admin",
    "stopped",
  ]);
  expect(lines[1]).toMatchObject({
    user: "default",
    method: "password",
    addresses: [expect.any(String), expect.any(String)],
  });
  expect(lines[2]).toMatchObject({ user: "eve" });
  expect(lines[3]).toMatchObject({ user: "default", code: "refused", reason: "ended by the operator" });
  expect(lines[4]).toMatchObject({ action: "kick" });
  expect((await show(server, "--user", "eve")).map(({ type }) => type)).toEqual(["refused"]);
  expect(await show(server, "--since", "2099-01-01")).toEqual([]);
  const text = readFileSync(logFile(server), "utf8");
  for (const secret of [PASSWORD, "hunter2"]) expect(text).not.toContain(secret);

  expect((await server.control("audit", "verify")).status).toBe(0);
  writeFileSync(logFile(server), text.replace('"user":"eve"', '"user":"bob"'));
  const changed = await server.control("audit", "verify");
  expect(changed).toMatchObject({ status: 1, stdout: "line 3: the line was changed, or is damaged\n" });
  writeFileSync(logFile(server), text.split("\n").toSpliced(2, 1).join("\n"));
  expect(await server.control("audit", "verify")).toMatchObject({
    status: 1,
    stdout: "line 4: lines 3 to 3 are missing\n",
  });
});

networkTest(
  "audit: what an administrator changes has its line, whether the server runs or not, also many at once",
  {},
  async (network) => {
    const env = { OMAIL_PASSWORD: PASSWORD, SUDO_USER: "carol" };
    const change = (...args: readonly string[]) =>
      network.server.tryRun(
        [executable("server"), ...args, "--state-dir", serverState(network), "--tun", DEFAULT_TUN],
        { env, cwd: network.directory },
      );
    const must = async (...args: readonly string[]): Promise<void> => {
      const { status, stderr } = await change(...args);
      expect([args.join(" "), status, stderr]).toEqual([args.join(" "), 0, ""]);
    };
    await must("user", "add", "alice", "--quota", "1GB", "--totp");
    await must("cert", "init", "--host", SERVER_ADDRESS);
    const server = await startServer(network);
    await must("user", "set", "alice", "--quota", "none", "--group", "staff");
    await must("user", "totp", "alice", "--off");
    await must("user", "passwd", "alice");
    await must("cert", "issue", "alice", "--out", network.directory);
    await must("cert", "revoke", "alice");
    await must("user", "disable", "alice");
    await must("user", "enable", "alice");
    expect((await change("user", "set", "nobody", "--quota", "1GB")).status).toBe(3);
    await must("reload");
    server.program.signal("SIGHUP");
    await must("user", "remove", "alice");
    // the server appends to the same chain meanwhile
    const names = Array.from({ length: 10 }, (_, i) => `user${i}`);
    await Promise.all([
      ...names.map((name) => must("user", "add", name, "--auth", "password")),
      refusedLogin(network),
    ]);
    await server.stop();
    const lines = await show(server);
    const acts = lines.filter(({ type }) => type === "admin" || type === "revoked");
    const told = acts.map(({ action = "revoked", target, name, detail = "" }) =>
      [action, target ?? name, String(detail).replace(/^serial.*/, "serial")].join("|"),
    );
    const one = told.filter((text) => !/^(cert init|reload|user add.user[0-9])/.test(text));
    expect(one).toEqual([
      "user add|alice|quota, totp",
      `cert issue --server|${SERVER_ADDRESS}|serial`,
      "user set|alice|group, quota",
      "user totp|alice|off",
      "user passwd|alice|",
      "cert issue|alice|serial",
      "revoked|alice|",
      "user disable|alice|",
      "user enable|alice|",
      "user remove|alice|",
    ]);
    const many = told.filter((text) => /^user add.user[0-9]/.test(text));
    expect(many.toSorted()).toEqual(names.map((name) => `user add|${name}|auth`));
    expect(told.filter((text) => text.startsWith("reload"))).toHaveLength(2);
    const actors = new Set(acts.map(({ actor, reason }) => actor ?? reason));
    const carol = expect.stringMatching(/uid 0 \(.*sudo from carol\)/);
    expect([...actors].filter((actor) => actor !== "signal SIGHUP")).toEqual([carol, carol, carol]);
    expect(actors).toContain("signal SIGHUP");
    expect((await show(server, "--user", "eve")).map(({ type }) => type)).toEqual(["refused"]);
    expect((await server.control("audit", "verify")).status).toBe(0);
    expect(readFileSync(logFile(server), "utf8")).not.toContain(PASSWORD);
  },
);

for (const mode of ["continue", "refuse"]) {
  networkTest(
    `audit: on a full disk log-ins ${mode === "refuse" ? "are refused" : "go on, with an alarm"}`,
    {},
    async (network) => {
      // A small disk of its own, mounted where only this machine's programs see it through a bind of the test's folder.
      const disk = join(network.directory, "disk");
      mkdirSync(disk);
      await command(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk]);
      try {
        const server = await startServer(network, { stateDir: "disk", args: ["--audit-full", mode] });
        await tryCommand(["dd", "if=/dev/zero", `of=${join(disk, "ballast")}`, "bs=4k"]);
        expect((await refusedLogin(network)).status).toBe(4);
        // some lines more find room in the last block that the file has
        await until("the alarm", timeoutSeconds(15), async () => {
          await server.control("reload");
          return server.program.output.includes("Cannot write the audit log") ? true : undefined;
        });
        if (mode === "refuse") {
          const refused = await runToEnd(network, network.client(0), "client", {
            args: ["--server", SERVER_ADDRESS, "--split-tunnel", SPLIT_TUNNEL],
          });
          expect(refused).toMatchObject({ status: 4 });
          expect(refused.stderr).toContain("cannot record log-ins");
        } else {
          await startClient(network);
        }
        rmSync(join(disk, "ballast"));
        await until("the log to be written again", timeoutSeconds(10), async () =>
          server.program.output.includes("can be written again") ? true : undefined,
        );
        await server.stop();
        expect((await server.control("audit", "verify")).status).toBe(0);
        // once, though it may have been tried several times
        const refusals = (await show(server, "--user", "eve")).map(({ type }) => type);
        expect(refusals).toEqual(["refused"]);
      } finally {
        await command(["umount", "-l", disk]);
      }
    },
  );
}
