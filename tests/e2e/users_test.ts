/** Users of the database: added, changed and removed by commands while their clients are connected. */

import { expect } from "bun:test";
import { join } from "node:path";
import { totpCode } from "../../lib/totp.ts";
import { networkTest } from "./harness.ts";
import type { CommandResult } from "./harness/command.ts";
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
import { timeoutSeconds } from "./harness/timing.ts";
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
  "users: a used-up quota ends the session and is remembered by the next server",
  {},
  async (network) => {
    await mustUser(network, "add", "alice", "--quota", "1MB");
    const server = await startServer(network, { stateDir: STATE });
    const alice = await startClient(network, 0, { args: ["--user", "alice"] });
    const start = performance.now();
    await ping(network.client(0), INNER_SERVER, { count: 500, bytes: 1300, intervalSeconds: 0.002 });
    const { status, output, ms } = await refused(alice, start);
    console.log(`quota: client ended with ${status} after ${Math.round(ms)} ms`);
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
