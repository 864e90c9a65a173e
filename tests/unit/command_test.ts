import { describe, expect, test } from "bun:test";
import { commandError, expectCommand, runCommand } from "../../lib/command.ts";
import { PrivilegeError, SystemError } from "../../lib/errors.ts";

describe("runCommand", () => {
  test("passes arguments and input untouched, without a shell", async () => {
    const result = await runCommand(
      ["sh", "-c", 'cat; printf "%s" "$1" >&2; exit 3', "sh", "$HOME; *"],
      "in\n",
    );
    expect(result).toEqual({ status: 3, stdout: "in\n", stderr: "$HOME; *" });
  });

  test("hides our environment, which may hold a password", async () => {
    process.env["OMAIL_TEST_SECRET"] = "secret";
    const { stdout } = await runCommand(["env"]);
    delete process.env["OMAIL_TEST_SECRET"];
    expect(stdout).not.toContain("secret");
    expect(stdout).toContain("LC_ALL=C");
  });

  test("a missing command is named", async () => {
    await expect(runCommand(["omail-no-such-command"])).rejects.toThrow(
      'Cannot run "omail-no-such-command": command not',
    );
  });

  test("status -1 when a signal ended it", async () => {
    expect((await runCommand(["sh", "-c", "kill -9 $$"])).status).toBe(-1);
  });
});

test("expectCommand: returns the output, and turns a failure into an error with the command's words", async () => {
  expect(await expectCommand(runCommand, "Cannot echo", ["echo", "a"])).toBe("a\n");
  expect(expectCommand(runCommand, "Cannot list", ["sh", "-c", "echo no >&2; exit 4"])).rejects.toThrow(
    new SystemError("Cannot list: no", "sh", 4),
  );
});

describe("commandError", () => {
  test("a refusal for lack of privilege says what to do", () => {
    const error = commandError("Cannot x", "ip", 2, "RTNETLINK answers: Operation not permitted\n");
    expect(error).toBeInstanceOf(PrivilegeError);
    expect(error.message).toBe(
      "Cannot x: RTNETLINK answers: Operation not permitted; run as root or with CAP_NET_ADMIN",
    );
  });

  test("a silent failure names the status", () => {
    expect(commandError("Cannot x", "ip", 9, " ").message).toBe("Cannot x: ip ended with status 9");
  });
});
