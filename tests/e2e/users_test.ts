/** Users of the database: added, changed and removed by commands while their clients are connected. */

import { expect } from "bun:test";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { totpCode } from "../../lib/totp.ts";
import { networkTest } from "./harness.ts";
import { command, type CommandResult } from "./harness/command.ts";
import type { Network } from "./harness/network.ts";
import {
  DEFAULT_TUN,
  executable,
  INNER_SERVER,
  type OmailProgram,
  PASSWORD,
  runToEnd,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { ping } from "./harness/traffic.ts";

/** The required figure for a change to reach a live session; not a time-out, so it is not scaled. */
const ACTS_WITHIN_MS = 2_000;
const STATE = "users";

/** Runs `omail-server user ...` on the server's machine. */
function user(network: Network, ...args: readonly string[]): Promise<CommandResult> {
  const stateDir = join(network.directory, STATE);
  const argv = [executable("server"), "user", ...args, "--state-dir", stateDir, "--tun", DEFAULT_TUN];
  return network.server.tryRun(argv, { env: { OMAIL_PASSWORD: PASSWORD }, cwd: network.directory });
}

/** Runs it; it must succeed. */
async function mustUser(network: Network, ...args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await user(network, ...args);
  expect([args.join(" "), status, stderr]).toEqual([args.join(" "), 0, ""]);
  return stdout;
}

/** Waits for a client that was refused: its exit status, how long it took, and what it said. */
async function refused(client: OmailProgram<unknown>, startMs: number) {
  const status = await client.program.wait(timeoutSeconds(10));
  return { status, ms: performance.now() - startMs, output: client.program.output };
}

networkTest(
  "users: a change acts on a live session within 2 s, and its client gives up",
  {},
  async (network) => {
    expect((await mustUser(network, "list")).trim()).toContain("There are no users");
    for (const name of ["alice", "bob"]) {
      expect(await mustUser(network, "add", name)).toContain(`Added user "${name}". No server runs`);
    }
    const server = await startServer(network, { stateDir: STATE });
    const endings: readonly (readonly [readonly string[], string])[] = [
      [["disable", "alice"], "This user is disabled"],
      [["set", "alice", "--expires", "2020-01-01"], "This user expired on 2020-01-02T00:00Z"],
      [["passwd", "alice"], "The password of this user was changed"],
      [["remove", "alice"], "This user was removed"],
    ];
    const bob = await startClient(network, 0, { args: ["--user", "bob"], tun: "bob0" });
    for (const [args, reason] of endings) {
      const alice = await startClient(network, 0, { args: ["--user", "alice"] });
      // another password than before, for `passwd`
      const file = join(network.directory, "new-password");
      await Bun.write(file, `${args[0]} ${PASSWORD}`);
      const start = performance.now();
      await mustUser(network, ...args, ...(args[0] === "passwd" ? ["--password-file", file] : []));
      const { status, ms, output } = await refused(alice, start);
      console.log(`${args.join(" ")}: client ended with ${status} after ${Math.round(ms)} ms`);
      expect([status, output.includes(`The server refused: ${reason}`)]).toEqual([4, true]);
      expect(ms).toBeLessThan(ACTS_WITHIN_MS);
      if (args[0] === "disable") await mustUser(network, "enable", "alice");
      if (args[0] === "set") await mustUser(network, "set", "alice", "--expires", "none");
      if (args[0] === "passwd") await mustUser(network, "passwd", "alice");
    }
    expect((await ping(network.client(0), INNER_SERVER, { count: 2, from: "bob0" })).received).toBe(2);
    expect((await server.status()).sessions.map(({ user }) => user)).toEqual(["bob"]);
    expect(bob.program.running).toBe(true);
  },
);

networkTest(
  "users: a lowered number of devices ends the newest session within 2 s, and its client gives up",
  { clients: 2 },
  async (network) => {
    await mustUser(network, "add", "alice");
    await startServer(network, { stateDir: STATE });
    const first = await startClient(network, 0, { args: ["--user", "alice"] });
    const second = await startClient(network, 1, { args: ["--user", "alice"] });
    const start = performance.now();
    await mustUser(network, "set", "alice", "--devices", "1");
    const { status, ms, output } = await refused(second, start);
    console.log(`fewer devices: client ended with ${status} after ${Math.round(ms)} ms`);
    expect([status, output.includes("This user may now have 1 device at once")]).toEqual([4, true]);
    expect(ms).toBeLessThan(ACTS_WITHIN_MS);
    expect((await first.status()).state).toBe("connected");
  },
);

/** Holds the database's lock for writing until it is ended. */
const LOCKER = `const { Database } = require("bun:sqlite");
  const database = new Database(process.argv[1]);
  database.run("BEGIN IMMEDIATE");
  console.log("locked");
  setInterval(() => database, 1000);`;

networkTest(
  "users: while the database is locked or damaged the server says so, and keeps sessions and users",
  { limitSeconds: 60 },
  async (network) => {
    await mustUser(network, "add", "alice");
    const server = await startServer(network, { stateDir: STATE });
    const path = join(server.stateDir, "users.db");
    const alice = await startClient(network, 0, { args: ["--user", "alice"] });
    const says = (text: string, times: number) =>
      until(text, timeoutSeconds(10), async () =>
        server.program.output.split(text).length > times ? true : undefined,
      );
    const alive = async () => (await ping(network.client(0), INNER_SERVER, { count: 3 })).received;

    const locker = network.server.start("locker", [process.execPath, "-e", LOCKER, path]);
    await until("the lock", timeoutSeconds(10), async () =>
      locker.output.includes("locked") ? true : undefined,
    );
    expect(await alive()).toBe(3);
    await says("it is locked by another program", 1);
    const failed = await user(network, "set", "alice", "--group", "staff");
    expect([failed.status, failed.stderr]).toEqual([1, expect.stringContaining("it is locked by another")]);
    await locker.kill();
    await says("the user database can be used again", 1);

    const good = await Bun.file(path).bytes();
    await Bun.write(`${path}.bad`, new Uint8Array(good.length).fill(0x58));
    await rename(`${path}.bad`, path);
    await says("it is damaged", 1);
    expect(await alive()).toBe(3);
    // who was known is known
    const again = await startClient(network, 0, { args: ["--user", "alice"], tun: "again0" });
    expect((await alice.status()).state).toBe("connected");
    await again.stop();
    await Bun.write(`${path}.copy`, good);
    for (const suffix of ["-wal", "-shm"]) await rm(`${path}${suffix}`, { force: true });
    await rename(`${path}.copy`, path);
    await says("the user database can be used again", 2);
    await mustUser(network, "set", "alice", "--group", "staff");
    await alice.stop();
  },
);

networkTest(
  "users: a read-only database lets users in, and says what it cannot store",
  {},
  async (network) => {
    await mustUser(network, "add", "alice");
    const path = join(network.directory, STATE, "users.db");
    await command(["mount", "--bind", path, path]);
    try {
      await command(["mount", "-o", "remount,bind,ro", path]);
      const server = await startServer(network, { stateDir: STATE });
      const alice = await startClient(network, 0, { args: ["--user", "alice"] });
      expect((await ping(network.client(0), INNER_SERVER, { count: 3 })).received).toBe(3);
      await until("the error in the log", timeoutSeconds(10), async () =>
        server.program.output.includes("it is read-only or may not be opened") ? true : undefined,
      );
      const failed = await user(network, "disable", "alice");
      expect([failed.status, failed.stderr]).toEqual([1, expect.stringContaining("it is read-only")]);
      expect((await alice.status()).state).toBe("connected");
      await alice.stop();
      await server.stop();
    } finally {
      await command(["umount", "-l", path]);
    }
  },
);

/** Bytes that the client's interface has sent and received. */
async function tunnelBytes(network: Network): Promise<number> {
  const directory = `/sys/class/net/${DEFAULT_TUN}/statistics`;
  const { stdout } = await network.client(0).run(["cat", `${directory}/rx_bytes`, `${directory}/tx_bytes`]);
  return stdout
    .trim()
    .split("\n")
    .reduce((sum, line) => sum + Number(line), 0);
}

networkTest(
  "users: a used-up quota ends the session and is remembered by the next server",
  {},
  async (network) => {
    await mustUser(network, "add", "alice", "--quota", "1MB");
    const server = await startServer(network, { stateDir: STATE });
    const alice = await startClient(network, 0, { args: ["--user", "alice"] });
    const traffic = ping(network.client(0), INNER_SERVER, {
      count: 500,
      bytes: 1300,
      intervalSeconds: 0.002,
    });
    const usedUpMs = await until("the quota is used up", 10_000, async () =>
      (await tunnelBytes(network)) >= 1_000_000 ? performance.now() : undefined,
    );
    await traffic;
    const { status, output, ms } = await refused(alice, usedUpMs);
    console.log(`quota: client ended with ${status} ${Math.round(ms)} ms after it was used up`);
    expect([status, output.includes("The quota of 1MB a month is used up")]).toEqual([4, true]);
    // what was counted is stored once a second
    await Bun.sleep(1_100);
    await server.program.kill();
    await startServer(network, { stateDir: STATE });
    const again = await runToEnd(network, network.client(0), "client", {
      args: ["--server", "203.0.113.2", "--user", "alice"],
    });
    expect([again.status, again.stderr.includes("The quota of 1MB a month is used up")]).toEqual([4, true]);
  },
);

networkTest("users: a one-time code is asked for at the log-in only, and works once", {}, async (network) => {
  const added = await mustUser(network, "add", "alice", "--totp");
  const uri = new URL(added.split("\n")[0]!);
  const secret = base32(uri.searchParams.get("secret")!);
  await startServer(network, { stateDir: STATE, args: ["--rekey-after", "300ms"] });
  const file = join(network.directory, "code");
  await Bun.write(file, `${totpCode(secret, Date.now())}\n`);
  const args = ["--server", "203.0.113.2", "--user", "alice"];
  const without = await runToEnd(network, network.client(0), "client", { args });
  expect([without.status, without.stderr]).toEqual([
    2,
    expect.stringContaining("Cannot log in without a new one-time code: give OMAIL_TOTP or --totp-file"),
  ]);
  const withCode = [...args, "--totp-file", file];
  const alice = await startClient(network, 0, { args: ["--user", "alice", "--totp-file", file] });
  // three rekeys later no other code was wanted
  await Bun.sleep(1_000);
  expect((await ping(network.client(0), INNER_SERVER, { count: 2 })).received).toBe(2);
  await alice.stop();
  const again = await runToEnd(network, network.client(0), "client", { args: withCode });
  expect([again.status, again.stderr]).toEqual([
    4,
    expect.stringContaining("The one-time code is wrong or was used before"),
  ]);
});

networkTest(
  "users: wrong use of the commands is refused with a word, and changes nothing",
  {},
  async (network) => {
    await mustUser(network, "add", "alice", "--address", "10.8.0.9");
    const cases: readonly (readonly [readonly string[], number, string])[] = [
      [["add", "alice"], 2, `Cannot add the user "alice": it exists already`],
      [["add", "bob", "--address", "10.8.0.9"], 2, `Cannot give "10.8.0.9" to "bob": it is "alice"'s`],
      [["add", "a/b"], 2, `Cannot use "a/b" as a user name`],
      [["add", "bob\u0007"], 2, "control or unassigned characters"],
      [["set", "alice", "--rate-up", "fast"], 2, `--rate-up: Cannot use "fast" as a rate`],
      [["set", "alice", "--devices", "0"], 2, `--devices: Cannot use "0"`],
      [["set", "alice", "--network", "0.0.0.0/0"], 2, "--network: "],
      [["set", "alice"], 2, "Cannot set nothing"],
      [["set", "alice", "--qouta", "1GB"], 2, "--quota"],
      [["show", "nobody"], 3, `There is no user "nobody"`],
      [["remove", "nobody"], 3, `There is no user "nobody"`],
      [["passwd", "alice", "--password-file", "/nonexistent/file"], 2, "Cannot read the password"],
      [["lst"], 2, "list"],
    ];
    for (const [args, status, words] of cases) {
      const result = await user(network, ...args);
      expect([args.join(" "), result.status, result.stdout]).toEqual([args.join(" "), status, ""]);
      expect(result.stderr).toContain(words);
      expect(result.stderr.trim().split("\n")).toHaveLength(1);
    }
    const [alice] = JSON.parse(await mustUser(network, "list", "--json")) as Record<string, unknown>[];
    expect(alice).toMatchObject({ name: "alice", enabled: true, totp: false, addresses: ["10.8.0.9"] });
    expect(JSON.stringify(alice)).not.toMatch(/key|salt|secret/i);
  },
);

function base32(text: string): Uint8Array<ArrayBuffer> {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = Array.from(text, (letter) => alphabet.indexOf(letter).toString(2).padStart(5, "0")).join("");
  const bytes = bits.match(/.{8}/g) ?? [];
  return Uint8Array.from(bytes, (byte) => Number.parseInt(byte, 2));
}
