import { describe, expect, test } from "bun:test";
import { type CommandInput, command } from "../../cli/command.ts";
import { switchFlag, valueFlag } from "../../cli/flags.ts";
import { runArguments } from "../../cli/run.ts";
import { NotRunningError, PrivilegeError, RefusedError, SystemError } from "../../lib/errors.ts";

/** Runs a small program; tells what was called, printed and returned. */
async function run(...rawArgs: string[]) {
  const calls: [string, CommandInput][] = [];
  const printed = { stdout: "", stderr: "" };
  const args = { config: valueFlag("FILE", "a file"), json: switchFlag("JSON") };
  const leaf = (name: string, run?: () => Promise<void>) =>
    command({
      name,
      description: `The ${name} command`,
      args,
      run: async (input) => {
        calls.push([name, input]);
        await run?.();
      },
    });
  const fail = (error: unknown) => () => Promise.reject(error as Error);
  const program = {
    meta: { name: "prog", description: "A program" },
    args,
    default: "up",
    subCommands: {
      up: leaf("up"),
      status: leaf("status"),
      kick: command({
        name: "kick",
        description: "Kick",
        args: { target: { type: "positional", description: "whom", required: true } },
        run: async (input) => void calls.push(["kick", input]),
      }),
      privilege: leaf("privilege", fail(new PrivilegeError("needs root"))),
      refused: leaf("refused", fail(new RefusedError("no"))),
      idle: leaf("idle", fail(new NotRunningError("not running"))),
      system: leaf("system", fail(new SystemError("broken", "ip", 2))),
      bug: leaf("bug", fail(new TypeError("a bug"))),
    },
  };
  const exitStatus = await runArguments(program, rawArgs, {
    stdout: (text) => (printed.stdout += text),
    stderr: (text) => (printed.stderr += text),
    colors: false,
  });
  return { calls, exitStatus, ...printed };
}

describe("runArguments()", () => {
  test("runs the default command without a name, also with flags whose values stand apart", async () => {
    expect((await run()).calls).toEqual([["up", { flags: {}, positionals: [] }]]);
    const { calls, exitStatus } = await run("--config", "x");
    expect(calls).toEqual([["up", { flags: { config: "x" }, positionals: [] }]]);
    expect(exitStatus).toBe(0);
  });

  test("runs a named command once, and its parent not at all", async () => {
    expect((await run("status", "--json")).calls).toEqual([
      ["status", { flags: { json: true }, positionals: [] }],
    ]);
  });

  test("refuses an unknown flag and names the nearest, with and without a command", async () => {
    for (const rawArgs of [
      ["--confg", "x"],
      ["up", "--confg", "x"],
    ]) {
      const { calls, exitStatus, stderr } = await run(...rawArgs);
      expect(calls).toEqual([]);
      expect(exitStatus).toBe(2);
      expect(stderr).toBe('error: Unknown flag "--confg", did you mean "--config"?\n');
    }
  });

  test("refuses a repeated flag and an empty value", async () => {
    expect(await run("--config", "a", "--config", "b")).toMatchObject({ exitStatus: 2, calls: [] });
    expect(await run("up", "--config", "")).toMatchObject({ exitStatus: 2, calls: [] });
    expect(await run("up", "--config")).toMatchObject({ exitStatus: 2, calls: [] });
  });

  test("refuses an unknown command and names the nearest", async () => {
    expect((await run("statsu")).stderr).toBe('error: Unknown command "statsu", did you mean "status"?\n');
    expect((await run("toString")).exitStatus).toBe(2);
  });

  test("refuses flags in front of a command, which citty would lose", async () => {
    const { exitStatus, stderr } = await run("--config", "x", "status");
    expect(exitStatus).toBe(2);
    expect(stderr).toContain('"--config" in front of the command "status"');
  });

  test("refuses a superfluous and a missing argument", async () => {
    expect(await run("status", "x")).toMatchObject({ exitStatus: 2, calls: [] });
    expect(await run("kick")).toMatchObject({ exitStatus: 2, calls: [] });
    expect((await run("kick", "ann")).calls).toEqual([["kick", { flags: {}, positionals: ["ann"] }]]);
  });

  test("looks for --help and --version in front of a double dash only", async () => {
    expect((await run("kick", "--", "--help")).calls).toEqual([
      ["kick", { flags: {}, positionals: ["--help"] }],
    ]);
  });

  test.each([[["--version"]], [["up", "--version"]], [["-v"]]])(
    "prints the version for %p",
    async (rawArgs) => {
      const { exitStatus, stdout, calls } = await run(...rawArgs);
      expect(exitStatus).toBe(0);
      expect(stdout).toMatch(/^prog \d+\.\d+\.\d+ \(.+\)\n$/);
      expect(calls).toEqual([]);
    },
  );

  test("prints help of the program or of a command to stdout, without colours", async () => {
    const program = await run("--help");
    expect(program).toMatchObject({ exitStatus: 0, calls: [], stderr: "" });
    expect(program.stdout).toContain("COMMANDS");
    expect(program.stdout).not.toContain("\u001B");
    expect((await run("status", "--help")).stdout).toContain("The status command");
    expect((await run("status", "-h", "--wrong")).exitStatus).toBe(0);
  });

  test.each([
    ["privilege", 5, "error: needs root\n"],
    ["refused", 4, "error: no\n"],
    ["idle", 3, "error: not running\n"],
    ["system", 1, "error: broken\n"],
  ])("turns the error of %p into exit status %p and one line", async (name, status, line) => {
    expect(await run(name)).toMatchObject({ exitStatus: status, stderr: line, stdout: "" });
  });

  test("reports a bug with its stack", async () => {
    const { exitStatus, stderr } = await run("bug");
    expect(exitStatus).toBe(1);
    expect(stderr).toMatch(/Unexpected failure.*TypeError: a bug/s);
  });
});
