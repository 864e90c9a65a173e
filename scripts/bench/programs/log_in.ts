/**
 * Logs in at a server again and again at a fixed pace, and leaves at once. Reads a `LoginJob`, prints a `LoginReport`.
 *
 * It stretches the password once for all, as RFC 5802 lets a client do: what is measured is the server.
 */

import { readFileSync } from "node:fs";
import * as v from "valibot";
import { messageOf } from "../../../lib/caught.ts";
import { logIn } from "../../../lib/client_login.ts";
import { encodeMessage, goodbyeMessage } from "../../../lib/control_message.ts";
import { PasswordKeys } from "../../../lib/password.ts";
import { connectControl } from "../../../lib/tls_control.ts";
import { LoginJob, type LoginReport } from "../login_load.ts";
import { median } from "../statistics.ts";

const TIMEOUT_MS = 10_000;

const job = v.parse(LoginJob, JSON.parse(readFileSync(0, "utf8")));
const { signal } = new AbortController();
const keys = new PasswordKeys(job.password);
const timesMs: number[] = [];
let failed = 0;
let lastError: string | null = null;

async function logInOnce(): Promise<void> {
  const startMs = performance.now();
  const endpoint = { host: job.host, port: job.port };
  const server = { endpoint, serverName: job.host, trust: null, identity: null };
  const options = { ...server, timeoutMs: TIMEOUT_MS, signal };
  const connection = await connectControl(options);
  const login = {
    user: "default",
    method: "password",
    serverTrusted: false,
    password: () => Promise.resolve(keys),
    client: "bench",
    offload: false,
    wantedAddresses: [],
    resume: null,
    random: (length: number) => crypto.getRandomValues(new Uint8Array(length)),
  } as const;
  await logIn(connection, login, TIMEOUT_MS, signal);
  timesMs.push(performance.now() - startMs);
  connection.close(encodeMessage(goodbyeMessage("bye", "")));
}

function failure(error: unknown): void {
  failed++;
  lastError = messageOf(error);
}

// the first stretches the password, and finds out whether it works at all
await logInOnce();
const startMs = performance.now();
const running: Promise<void>[] = [];
for (let i = 0; i < job.count; i++) {
  const waitMs = startMs + (i * 1000) / job.perSecond - performance.now();
  if (waitMs > 0) await Bun.sleep(waitMs);
  running.push(logInOnce().catch(failure));
}
await Promise.all(running);
const done = timesMs.length - 1;
const report: LoginReport = {
  done,
  failed,
  perSecond: (done * 1000) / (performance.now() - startMs),
  p50Ms: median(timesMs.slice(1)),
  error: lastError,
};
process.stdout.write(JSON.stringify(report));
process.exit(0);
