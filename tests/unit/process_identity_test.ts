import { describe, expect, test } from "bun:test";
import {
  bootId,
  inPrivateNetworkNamespace,
  isRunning,
  networkNamespace,
  ownIdentity,
} from "../../lib/process_identity.ts";

describe("isRunning", () => {
  test("this process runs", () => {
    expect(isRunning(ownIdentity())).toBeTrue();
  });

  test("another start time is another process with a reused number", () => {
    expect(isRunning({ ...ownIdentity(), startTime: "1" })).toBeFalse();
  });

  test("nothing of another boot runs", () => {
    expect(isRunning({ ...ownIdentity(), bootId: "00000000-0000-0000-0000-000000000000" })).toBeFalse();
  });

  test("a process that ended does not run", async () => {
    const child = Bun.spawn(["sleep", "60"]);
    const stat = await Bun.file(`/proc/${child.pid}/stat`).text();
    const identity = { bootId: bootId(), pid: child.pid, startTime: stat.split(" ")[21] ?? "" };
    expect(isRunning(identity)).toBeTrue();
    child.kill("SIGKILL");
    await child.exited;
    expect(isRunning(identity)).toBeFalse();
  });
});

test("networkNamespace: a number, and not private when the machine's first process shares it or hides", () => {
  expect(networkNamespace()).toMatch(/^\d+$/);
  expect(typeof inPrivateNetworkNamespace()).toBe("boolean");
});
