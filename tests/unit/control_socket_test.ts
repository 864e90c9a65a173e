import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KickRequest } from "../../lib/admin_message.ts";
import {
  type AdminHandlers,
  listenControlSocket,
  requestAction,
  requestStatus,
} from "../../lib/control_socket.ts";
import { NotRunningError, UsageError } from "../../lib/errors.ts";
import type { Instance } from "../../lib/instance.ts";
import type { Log } from "../../lib/log.ts";

const directory = mkdtempSync(join(tmpdir(), "omail-socket-"));
afterAll(() => rmSync(directory, { recursive: true }));

const errors: string[] = [];
const log: Log = { error: (message) => errors.push(message), warn() {}, info() {}, debug() {} };

function instance(tun: string): Instance {
  const base = join(directory, tun);
  return {
    role: "server",
    tun,
    stateDir: directory,
    journalPath: base,
    socketPath: `${base}.sock`,
    lockPath: base,
  };
}

const handlers: AdminHandlers = {
  status: async () => ({ state: "connected" }),
  stop: async () => "stopped",
  kick: async (request: KickRequest) => `kicked ${JSON.stringify(request)}`,
  reload: () => Promise.reject(new UsageError("line 3 is wrong")),
};

/** Sends a raw request, as another program might. */
function raw(of: Instance, path: string, options: RequestInit): Promise<Response> {
  return fetch(`http://localhost${path}`, { ...options, unix: of.socketPath });
}

describe("listenControlSocket()", () => {
  test("answers status and actions, for owner and group only, and removes its file", async () => {
    const here = instance("a");
    const socket = await listenControlSocket(here, handlers, log);
    expect(statSync(here.socketPath).mode & 0o777).toBe(0o660);
    expect(await requestStatus(here)).toEqual({ state: "connected" });
    expect(await requestAction(here, "stop")).toBe("stopped");
    expect(await requestAction(here, "kick", { user: "ann" })).toBe('kicked {"user":"ann"}');
    await socket.close();
    expect(existsSync(here.socketPath)).toBeFalse();
  });

  test("tells an action who asks; what is no name of ours, or too long, is not taken for one", async () => {
    const here = instance("who");
    const who = async (actor: string) => `asked by ${actor}`;
    const socket = await listenControlSocket(here, { ...handlers, reload: who }, log);
    expect(await requestAction(here, "reload")).toMatch(/^asked by uid [0-9]+.*, by control socket$/);
    const asked = async (header: Record<string, string>) => {
      const reply = await raw(here, "/reload", { method: "POST", body: "{}", headers: header });
      return ((await reply.json()) as { done: string }).done;
    };
    expect(await asked({})).toBe("asked by control socket");
    expect(await asked({ "x-omail-actor": "%E0%A4%A" })).toBe("asked by control socket");
    expect((await asked({ "x-omail-actor": "x".repeat(4_000) })).length).toBeLessThan(300);
    await socket.close();
  });

  test("hands errors over with their class", async () => {
    const here = instance("b");
    const socket = await listenControlSocket(here, handlers, log);
    await expect(requestAction(here, "reload")).rejects.toThrow(new UsageError("line 3 is wrong"));
    await expect(requestAction(here, "rekey")).rejects.toThrow(UsageError);
    await socket.close();
  });

  test("logs what is a bug, and goes on", async () => {
    const here = instance("c");
    const status = () => Promise.reject(new TypeError("a bug"));
    const socket = await listenControlSocket(here, { ...handlers, status }, log);
    await expect(requestStatus(here)).rejects.toThrow("a bug");
    expect(errors).toEqual(["Control request failed"]);
    expect(await requestAction(here, "stop")).toBe("stopped");
    await socket.close();
  });

  test("refuses other paths, methods and bodies", async () => {
    const here = instance("d");
    const socket = await listenControlSocket(here, handlers, log);
    const requests: [string, RequestInit][] = [
      ["/", {}],
      ["/stop", {}],
      ["/status", { method: "POST", body: "{}" }],
      ["/stop", { method: "POST", body: "" }],
      ["/stop", { method: "POST", body: "{" }],
      ["/stop", { method: "POST", body: '{"now":true}' }],
      ["/kick", { method: "POST", body: '{"session":"1"}' }],
      ["/stop", { method: "POST", body: "x".repeat(10_000) }],
    ];
    for (const [path, options] of requests) expect((await raw(here, path, options)).ok).toBeFalse();
    await socket.close();
  });

  test("replaces the file of a dead process, but not of a living one", async () => {
    const here = instance("e");
    writeFileSync(here.socketPath, "");
    const socket = await listenControlSocket(here, handlers, log);
    await expect(listenControlSocket(here, handlers, log)).rejects.toThrow(UsageError);
    expect(await requestStatus(here)).toEqual({ state: "connected" });
    await socket.close();
  });

  test("lets the reply to stop out before it closes", async () => {
    const here = instance("f");
    const restored = Promise.withResolvers<string>();
    const socket = await listenControlSocket(here, { ...handlers, stop: () => restored.promise }, log);
    const reply = requestAction(here, "stop");
    await Bun.sleep(20);
    restored.resolve("all put back");
    await Promise.all([socket.close(), expect(reply).resolves.toBe("all put back")]);
  });
});

test("requestStatus() says which program does not run", async () => {
  await expect(requestStatus(instance("none"))).rejects.toThrow(NotRunningError);
  await expect(requestStatus(instance("none"))).rejects.toThrow(/No omail-server runs with interface "none"/);
});
