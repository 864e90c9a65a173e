/**
 * One-time enrolment tokens in the state directory: `enrol/SHA256-OF-TOKEN.json`, `.used` instead of `.json` once used.
 *
 * Only the hash of a token is kept. A token is used up by a rename, which succeeds once whatever else happens.
 */

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { errorCode } from "./caught.ts";
import { UsageError } from "./errors.ts";
import { fileError, writePrivateFile } from "./private_file.ts";

const recordSchema = v.strictObject({
  version: v.literal(1),
  user: v.string(),
  /** Milliseconds since the Unix epoch. */
  expiresMs: v.number(),
  /** Days that the certificate will be good for. */
  validDays: v.number(),
  /** A profile without certificate and key, as `encodeProfile` wrote it. */
  profile: v.string(),
});

/** What a token allows. */
export type EnrolRecord = Omit<v.InferOutput<typeof recordSchema>, "version">;

/** What became of a token: it is good, or why not. */
export type TokenState =
  | { readonly state: "good"; readonly record: EnrolRecord }
  | { readonly state: "unknown" | "used" | "expired"; readonly record: EnrolRecord | null };

/** Used and expired tokens are remembered this long, so that a second use can be told from a wrong token. */
const KEEP_MS = 30 * 86_400_000;

/** Keeps a new token. @param nowMs milliseconds since the Unix epoch */
export function writeEnrolToken(
  stateDir: string,
  token: Uint8Array<ArrayBuffer>,
  record: EnrolRecord,
  nowMs: number,
): void {
  const directory = join(stateDir, "enrol");
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    prune(directory, nowMs);
  } catch (error) {
    throw fileError("write", directory, error);
  }
  const content = `${JSON.stringify({ version: 1, ...record })}\n`;
  writePrivateFile(`${basePath(stateDir, token)}.json`, content, { replace: false });
}

/** Looks a token up without using it. @throws {UsageError} when its file is damaged */
export function findEnrolToken(stateDir: string, token: Uint8Array<ArrayBuffer>, nowMs: number): TokenState {
  const base = basePath(stateDir, token);
  if (existsSync(`${base}.used`)) return { state: "used", record: readRecord(`${base}.used`) };
  const record = readRecord(`${base}.json`);
  if (record === null) return { state: "unknown", record };
  return nowMs > record.expiresMs ? { state: "expired", record } : { state: "good", record };
}

/** Uses a token up. @returns false when somebody else did before */
export function claimEnrolToken(stateDir: string, token: Uint8Array<ArrayBuffer>): boolean {
  const base = basePath(stateDir, token);
  try {
    renameSync(`${base}.json`, `${base}.used`);
    return true;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return false;
    throw fileError("rename", `${base}.json`, error);
  }
}

function basePath(stateDir: string, token: Uint8Array<ArrayBuffer>): string {
  return join(stateDir, "enrol", createHash("sha256").update(token).digest("hex"));
}

function readRecord(path: string): EnrolRecord | null {
  let content: string;
  try {
    content = readFileSync(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw fileError("read", path, error);
  }
  const result = v.safeParse(v.pipe(v.string(), v.parseJson(), recordSchema), content);
  if (!result.success)
    throw new UsageError(`Cannot read "${path}": it is damaged, expected an enrolment token`);
  const { version: _version, ...record } = result.output;
  return record;
}

function prune(directory: string, nowMs: number): void {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (nowMs - statSync(path).mtimeMs > 2 * KEEP_MS) rmSync(path, { force: true });
  }
}
