/** The Unix control socket: how commands such as `status` and `down` reach a running program. */

import { chmodSync, rmSync } from "node:fs";
import {
  ADMIN_ROUTES,
  type AdminAction,
  type KickRequest,
  errorFromReply,
  parseDoneReply,
  parseEmptyRequest,
  parseKickRequest,
  parseUnbanRequest,
  type UnbanRequest,
} from "./admin_message.ts";
import { errnoOf, errorCode, messageOf } from "./caught.ts";
import { EXIT, NotRunningError, OmailError, SystemError, UsageError } from "./errors.ts";
import type { Instance } from "./instance.ts";
import type { Log } from "./log.ts";
import { currentActor } from "./process_identity.ts";

/** What a running program can do when asked; actions that its role does not have are left out. */
export interface AdminHandlers {
  status(): Promise<object>;
  /** Ends the program; the reply is sent when all is put back, and only then may the socket be closed. */
  stop(): Promise<string>;
  /** `actor` is who asks, in the words of the command that does. */
  kick?(request: KickRequest, actor: string): Promise<string>;
  unban?(request: UnbanRequest, actor: string): Promise<string>;
  reload?(actor: string): Promise<string>;
  /** Reads certificates and revocation list again, and nothing else. */
  certificates?(): Promise<string>;
  rekey?(): Promise<string>;
  /** Reads the user database again. */
  users?(): Promise<string>;
}

/** A listening control socket. */
export interface ControlSocket {
  /** Lets replies under way finish, then removes the file. */
  close(): Promise<void>;
}

/** Owner and group may connect: the socket's directory decides who reaches it at all. */
const SOCKET_MODE = 0o660;
/** Seconds a request may take; an orderly end waits for the other side and for the machine's tools. */
const REQUEST_TIMEOUT_SECONDS = 60;
/** Largest request body in bytes; those with content name a session, a user or an address. */
const MAX_REQUEST_BYTES = 4096;
/** Header in which a command says who gave it, percent-encoded. Whoever reaches the socket can say anything there. */
const ACTOR_HEADER = "x-omail-actor";
const MAX_ACTOR_LENGTH = 200;

/**
 * Listens on the socket of `instance`; the file of a dead process is replaced.
 *
 * @throws {UsageError} when a living process answers there
 * @throws {SystemError} when the file cannot be made
 */
export async function listenControlSocket(
  instance: Instance,
  handlers: AdminHandlers,
  log: Log,
): Promise<ControlSocket> {
  const path = instance.socketPath;
  if (await isAnswering(instance)) {
    throw new UsageError(
      `Cannot listen on "${path}": another program answers there, expected it to be ended first`,
    );
  }
  try {
    rmSync(path, { force: true });
    const server = Bun.serve({
      unix: path,
      maxRequestBodySize: MAX_REQUEST_BYTES,
      fetch: (request, connection) => {
        connection.timeout(request, REQUEST_TIMEOUT_SECONDS);
        return answer(request, handlers, log);
      },
    });
    chmodSync(path, SOCKET_MODE);
    return {
      close: async () => {
        await server.stop();
        rmSync(path, { force: true });
      },
    };
  } catch (error) {
    throw new SystemError(
      `Cannot listen on "${path}": ${errorCode(error) || messageOf(error)}`,
      "bind",
      errnoOf(error),
    );
  }
}

/**
 * Asks a running program for its status.
 *
 * @returns the JSON value as it came
 * @throws {NotRunningError} when no program listens there
 */
export async function requestStatus(instance: Instance): Promise<unknown> {
  return await send(instance, "status", undefined);
}

/**
 * Asks a running program to do something.
 *
 * @returns what was done, for a person to read
 * @throws {NotRunningError} when no program listens there
 * @throws {OmailError} of the class that the program named when it did not do it
 */
export async function requestAction(
  instance: Instance,
  action: Exclude<AdminAction, "status">,
  body: object = {},
): Promise<string> {
  return parseDoneReply(await send(instance, action, body)).done;
}

async function send(instance: Instance, action: AdminAction, body: object | undefined): Promise<unknown> {
  const route = ADMIN_ROUTES[action];
  const response = await connect(instance, route.path, {
    method: route.method,
    headers: { [ACTOR_HEADER]: encodeURIComponent(currentActor()) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const reply: unknown = await response.json();
  if (!response.ok) throw errorFromReply(reply);
  return reply;
}

async function connect(instance: Instance, route: string, options: RequestInit): Promise<Response> {
  const { role, tun, stateDir, socketPath: path } = instance;
  try {
    return await fetch(`http://localhost${route}`, {
      ...options,
      unix: path,
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_SECONDS * 1000),
    });
  } catch (error) {
    const code = errorCode(error);
    if (code === "EACCES" || code === "EPERM") {
      throw new SystemError(
        `Cannot open "${path}": permission denied, expected root or a member of its group`,
        "connect",
        errnoOf(error),
      );
    }
    if (error instanceof Error && error.name === "TimeoutError") {
      throw new OmailError(`Cannot read from "${path}": no reply within ${REQUEST_TIMEOUT_SECONDS} s`);
    }
    const where = `interface "${tun}" and state directory "${stateDir}"`;
    throw new NotRunningError(`No omail-${role} runs with ${where} (${code || messageOf(error)})`);
  }
}

async function isAnswering(instance: Instance): Promise<boolean> {
  try {
    await send(instance, "status", undefined);
    return true;
  } catch (error) {
    return !(error instanceof NotRunningError);
  }
}

async function answer(request: Request, handlers: AdminHandlers, log: Log): Promise<Response> {
  try {
    return Response.json(await dispatch(request, handlers));
  } catch (error) {
    if (error instanceof OmailError) {
      return Response.json({ error: error.message, exitStatus: error.exitStatus }, { status: 400 });
    }
    log.error("Control request failed", { error: String(error) });
    return Response.json({ error: String(error), exitStatus: EXIT.failed }, { status: 500 });
  }
}

async function dispatch(request: Request, handlers: AdminHandlers): Promise<object> {
  const { pathname } = new URL(request.url);
  const action = (Object.keys(ADMIN_ROUTES) as AdminAction[]).find(
    (name) => ADMIN_ROUTES[name].path === pathname && ADMIN_ROUTES[name].method === request.method,
  );
  if (action === undefined)
    throw new UsageError(`Cannot answer ${request.method} "${pathname}": no such request`);
  if (action === "status") return await handlers.status();
  const body = await readBody(request);
  const actor = readActor(request.headers.get(ACTOR_HEADER));
  if (action === "kick") {
    if (handlers.kick === undefined) throw notHere(action);
    return { done: await handlers.kick(parseKickRequest(body), actor) };
  }
  if (action === "unban") {
    if (handlers.unban === undefined) throw notHere(action);
    return { done: await handlers.unban(parseUnbanRequest(body), actor) };
  }
  parseEmptyRequest(body);
  const handler = handlers[action];
  if (handler === undefined) throw notHere(action);
  return { done: await handler.call(handlers, actor) };
}

function readActor(header: string | null): string {
  try {
    const text = decodeURIComponent(header ?? "").slice(0, MAX_ACTOR_LENGTH);
    return text === "" ? "control socket" : `${text}, by control socket`;
  } catch {
    return "control socket"; // not what our commands send
  }
}

async function readBody(request: Request): Promise<unknown> {
  const text = await request.text();
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError("Cannot read the request: expected JSON");
  }
}

function notHere(action: AdminAction): UsageError {
  return new UsageError(`Cannot ${action} here: expected a server`);
}
