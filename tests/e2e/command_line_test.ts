/** The compiled executables as a person or a script meets them: flags, errors, exit statuses, safety of their start. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");
const SERVER = join(ROOT, "omail-server");
const CLIENT = join(ROOT, "omail-client");
/** Nothing here takes longer; a program that waits for something is a failure. */
const LIMIT_MS = 5_000;

let directory: string;

beforeAll(() => {
  for (const path of [SERVER, CLIENT]) {
    if (!existsSync(path)) throw new Error(`There is no ${path}: run "bun run build" first`);
  }
  directory = mkdtempSync(join(tmpdir(), "omail-command-line-"));
  // Also for the test that runs without privileges.
  chmodSync(directory, 0o755);
});

afterAll(() => rmSync(directory, { recursive: true }));

/** Runs a program in the test's directory, with nothing on its standard input. */
function run(argv: readonly string[], env: Record<string, string> = {}) {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...argv], {
    cwd: directory,
    env: { PATH: process.env["PATH"] ?? "", ...env },
    stdin: "ignore",
    timeout: LIMIT_MS,
  });
  return { status: exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

/** A state directory that holds nothing. */
function stateFlags(): string[] {
  return ["--state-dir", join(directory, "state")];
}

describe.each([
  ["omail-server", SERVER],
  ["omail-client", CLIENT],
])("%s", (name, path) => {
  test("--version names version and commit", () => {
    const { status, stdout, stderr } = run([path, "--version"]);
    expect(stdout).toMatch(new RegExp(`^${name} \\d+\\.\\d+\\.\\d+ \\([0-9a-f]{10}\\+?\\)\\n$`));
    expect([status, stderr]).toEqual([0, ""]);
  });

  test("--help goes to stdout, without colours into a pipe, for the program and each command", () => {
    for (const rawArgs of [["--help"], ["status", "--help"], ["down", "-h"]]) {
      const { status, stdout, stderr } = run([path, ...rawArgs]);
      expect(stdout).toContain("USAGE");
      expect(stdout).not.toContain("\u001B");
      expect([status, stderr]).toEqual([0, ""]);
    }
  });

  test("every error is one line on stderr, and nothing on stdout", () => {
    const { status, stdout, stderr } = run([path, "--mtux", "9"]);
    expect(stderr).toBe('error: Unknown flag "--mtux", did you mean "--mtu"?\n');
    expect([status, stdout]).toEqual([2, ""]);
  });

  test("status and down of what does not run: exit status 3, and 0 with nothing to do", () => {
    const status = run([path, "status", "--json", ...stateFlags()]);
    expect(status).toMatchObject({ status: 3, stdout: "" });
    expect(status.stderr).toContain(`No ${name} runs with interface "omail0"`);
    expect(run([path, "down", ...stateFlags()])).toMatchObject({ status: 0, stderr: "" });
  });

  test("complete prints a script and answers with flags", () => {
    expect(run([path, "complete", "bash"]).stdout).toContain("bash completion");
    expect(run([path, "complete", "--", "status", "--"]).stdout).toContain("--json");
  });

  test("a reader that has left ends it without a word, as SIGPIPE would; a full disk is named", () => {
    // the reader is gone before the first byte comes, so that no luck is needed
    const script = '(sleep 0.3; exec "$@") | true; exit "${PIPESTATUS[0]}"';
    const prints = [["--help"], ["--version"], ["status", "--help"], ["down", ...stateFlags()]];
    if (name === "omail-server") prints.push(["user", "list", "--json", ...stateFlags()]);
    for (const rawArgs of prints) {
      const { status, stderr } = run(["bash", "-c", script, "bash", path, ...rawArgs]);
      expect({ rawArgs, status, stderr }).toEqual({ rawArgs, status: 141, stderr: "" });
    }
    const { status, stderr } = run(["bash", "-c", '"$0" --help >/dev/full', path]);
    expect(stderr).toStartWith("error: Cannot write to standard output: ENOSPC");
    expect(status).toBe(1);
  });

  test("nothing in the directory it starts in changes what it does", () => {
    const trace = join(directory, "preloaded");
    writeFileSync(
      join(directory, "evil.ts"),
      `require("node:fs").writeFileSync(${JSON.stringify(trace)}, "");`,
    );
    writeFileSync(join(directory, "bunfig.toml"), 'preload = ["./evil.ts"]\n');
    writeFileSync(join(directory, ".env"), "OMAIL_LOG=planted\n");
    const { status, stderr } = run([path, "status", ...stateFlags()]);
    expect(stderr).not.toContain("planted");
    expect(status).toBe(3);
    expect(existsSync(trace)).toBeFalse();
    for (const file of ["evil.ts", "bunfig.toml", ".env"]) rmSync(join(directory, file));
  });
});

describe("omail-server", () => {
  const password = { OMAIL_PASSWORD: "secret-of-the-test" };

  test.each([
    [[], "Cannot start without a user"],
    [["--config", "none.toml"], 'none.toml" (ENOENT)'],
    [["run", "--tun-ip", "10.0.0.1/33"], '"10.0.0.1/33"'],
    [["--tun-ip", "10.0.0.300/24"], '"10.0.0.300"'],
    [["--mtu", "100000"], '"100000"'],
    [["--address", "nowhere:port"], '"nowhere:port"'],
    [["--push-route", "10.0.0.1/8"], "10.0.0.0/8"],
    [["--keepalive", "10"], '"10"'],
    [["--log-level", "loud"], '"loud"'],
    [["--tun", "a-name-that-is-too-long"], '"a-name-that-is-too-long"'],
    [["--nat", "--nat"], "--nat twice"],
    [["--password", ""], "--password"],
    [["--engine", "fast"], '"fast"'],
    [["start"], 'Unknown command "start"'],
    [["kick"], "TARGET"],
  ])("%p is wrong usage: exit status 2 and a word about %p", (rawArgs, words) => {
    const { status, stdout, stderr } = run([SERVER, ...rawArgs], rawArgs.length === 0 ? {} : password);
    expect(stderr).toContain(words);
    expect(stderr).not.toContain("secret-of-the-test");
    expect([status, stdout]).toEqual([2, ""]);
  });

  test("names an unknown key of the file with its line and the nearest right one", () => {
    const config = join(directory, "server.toml");
    writeFileSync(config, 'address = ":51820"\npush-rout = "10.0.0.0/8"\n');
    const { status, stderr } = run([SERVER, "--config", config], password);
    expect(stderr).toBe(
      `error: ${config}:2: push-rout: Unknown key "push-rout", did you mean "push-route"?\n`,
    );
    expect(status).toBe(2);
  });

  test("names the line of a file that is no TOML", () => {
    const config = join(directory, "broken.toml");
    writeFileSync(config, "address = \n");
    expect(run([SERVER, "--config", config], password).stderr).toStartWith(`error: ${config}:1:`);
  });

  test("without privileges ends with exit status 5 and says what to do", () => {
    const state = join(directory, "unprivileged");
    const asNobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    // The executables may be where nobody else can go: a copy in the directory can be run.
    const copy = join(directory, "omail-server-copy");
    Bun.spawnSync(["cp", SERVER, copy]);
    const { status, stderr } = run([...asNobody, copy, "--state-dir", state], password);
    expect(stderr).toMatch(/run as root/);
    expect(status).toBe(5);
  });

  test("kick and reload of what does not run: exit status 3", () => {
    expect(run([SERVER, "kick", "5", ...stateFlags()]).status).toBe(3);
    expect(run([SERVER, "reload", ...stateFlags()]).status).toBe(3);
  });
});

describe("omail-client", () => {
  test.each([
    [[], "Cannot connect without a server"],
    [["--server", "192.0.2.1"], "Cannot log in without a password"],
    [["--server", "192.0.2.1:0"], '"0"'],
    [["--server", ":51820"], '":51820"'],
    [["--server", "192.0.2.1", "--split-tunnel", "10.0.0.0/8,"], "an entry is empty"],
    [["--server", "192.0.2.1", "--password-file", "none"], "ENOENT"],
    [
      ["--server", "192.0.2.1", "--password", "a", "--password-file", "b"],
      "--password and --password-file together",
    ],
    [["--nat"], 'Unknown flag "--nat"'],
  ])("%p is wrong usage: exit status 2 and a word about %p", (rawArgs, words) => {
    const { status, stdout, stderr } = run([CLIENT, ...rawArgs]);
    expect(stderr).toContain(words);
    expect([status, stdout]).toEqual([2, ""]);
  });

  test("a missing CA file is wrong usage", () => {
    const { status, stderr } = run([CLIENT, "--server", "192.0.2.1", "--ca", "none.pem", ...stateFlags()], {
      OMAIL_PASSWORD: "x",
    });
    expect(stderr).toContain('--ca: Cannot read "none.pem" (ENOENT)');
    expect(status).toBe(2);
  });
});
