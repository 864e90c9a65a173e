/** Many log-ins at a server under test: starts the program that makes them, in a client's namespace. */

import { join } from "node:path";
import * as v from "valibot";
import { OmailError } from "../../lib/errors.ts";
import type { Running } from "./calm.ts";
import { OMAIL_PORT } from "./peer_omail.ts";
import { outerOf } from "./testbed.ts";

/** What the program is told, on its standard input: the password must not be seen in its arguments. */
export const LoginJob = v.object({
  host: v.string(),
  port: v.number(),
  password: v.string(),
  count: v.number(),
  perSecond: v.number(),
});
export type LoginJob = v.InferOutput<typeof LoginJob>;

/** What it answers. */
export const LoginReport = v.object({
  done: v.number(),
  failed: v.number(),
  perSecond: v.number(),
  p50Ms: v.nullable(v.number()),
  error: v.nullable(v.string()),
});
export type LoginReport = v.InferOutput<typeof LoginReport>;

const PROGRAM = join(import.meta.dir, "programs/log_in.ts");

/**
 * Logs in and out `count` times.
 *
 * @throws {OmailError} when more than a few in a hundred failed: then something else was measured
 */
export async function logInMany(
  { bed, tunnel }: Running,
  { count, perSecond }: { readonly count: number; readonly perSecond: number },
): Promise<LoginReport> {
  const host = outerOf("client").server;
  const job: LoginJob = { host, port: OMAIL_PORT, password: tunnel.password ?? "", count, perSecond };
  const timeoutMs = (count / perSecond) * 3_000 + 30_000;
  const result = await bed.run("client", [process.execPath, PROGRAM], timeoutMs, JSON.stringify(job));
  if (result.exitCode !== 0) throw new OmailError(`Cannot log in: ${result.stderr.trim().slice(-300)}`);
  const report = v.parse(LoginReport, JSON.parse(result.stdout));
  if (report.failed > count * 0.05)
    throw new OmailError(`${report.failed} of ${count} log-ins failed, the last with: ${report.error}`);
  return report;
}
