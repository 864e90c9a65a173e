/**
 * Client profiles: one JSON file with everything that a client needs.
 *
 * JSON, because a file that was cut off anywhere is no JSON: a TOML file could lose its end and still be read. Its keys
 * are those of the client's configuration, whose rules check the values; certificates and key are PEM texts.
 */

import * as v from "valibot";
import { nameProblem } from "./certificate_name.ts";
import { UsageError } from "./errors.ts";
import { suggestion } from "./nearest.ts";

/** Version of the form below; another one is refused. */
export const PROFILE_VERSION = 1;
/** The key whose value is the version; it tells profiles from other JSON. */
const VERSION_KEY = "omail-profile";
/** Longest profile that is read, in bytes: certificates of long chains included. */
export const MAX_PROFILE_BYTES = 256 * 1024;

const text = v.pipe(v.string("expected text"), v.minLength(1, "expected a value"));
const texts = v.array(text, "expected a list of texts");

const entries = {
  [VERSION_KEY]: v.literal(PROFILE_VERSION),
  /** Names the file when it is imported. */
  name: v.pipe(
    text,
    v.check((name) => nameProblem(name) === null, "expected a plain name"),
  ),
  server: v.pipe(texts, v.minLength(1, "expected at least one server")),
  user: text,
  auth: v.optional(v.picklist(["password", "cert", "both"], "expected password, cert or both")),
  ca: v.optional(text),
  pin: v.optional(texts),
  cert: v.optional(text),
  key: v.optional(text),
  "split-tunnel": v.optional(texts),
  exclude: v.optional(texts),
  "allow-lan": v.optional(v.boolean("expected true or false")),
  "kill-switch": v.optional(v.boolean("expected true or false")),
  dns: v.optional(texts),
  transport: v.optional(v.picklist(["auto", "udp", "tcp"], "expected auto, udp or tcp")),
  "no-dns": v.optional(v.boolean("expected true or false")),
};
const schema = v.strictObject(entries);

/** What a profile holds. */
export type Profile = Omit<v.InferOutput<typeof schema>, typeof VERSION_KEY>;

/** Settings of the client that a profile may bring. */
export type ProfileSettings = Omit<Profile, "name">;

/**
 * Reads a profile.
 *
 * @param what names it in error messages; no value of it is repeated, it holds a key
 * @throws {UsageError} when it is cut off, damaged, of another version, or not a profile
 */
export function decodeProfile(content: string, what: string): Profile {
  if (content.length > MAX_PROFILE_BYTES)
    throw new UsageError(`Cannot read ${what}: it is longer than ${MAX_PROFILE_BYTES} bytes`);
  const value = parseJson(content, what);
  const version = typeof value === "object" && value !== null ? Reflect.get(value, VERSION_KEY) : undefined;
  if (typeof version !== "number")
    throw new UsageError(`Cannot read ${what}: expected a profile that omail-server profile has written`);
  if (version !== PROFILE_VERSION) {
    throw new UsageError(
      `Cannot read ${what}: it has version "${version}", expected ${PROFILE_VERSION}; take an omail-client that is as new`,
    );
  }
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (!result.success) throw profileError(result.issues[0], what);
  const { [VERSION_KEY]: _version, ...profile } = result.output;
  if ((profile.cert === undefined) !== (profile.key === undefined))
    throw new UsageError(`Cannot read ${what}: it has only one of "cert" and "key", expected both or none`);
  return profile;
}

/** Writes a profile for a file; `undefined` values are left out. */
export function encodeProfile(profile: Profile): string {
  return `${JSON.stringify({ [VERSION_KEY]: PROFILE_VERSION, ...profile }, null, 2)}\n`;
}

/** Writes a profile on one line without control characters, for a message. */
export function encodeProfileLine(profile: Profile): string {
  return JSON.stringify({ [VERSION_KEY]: PROFILE_VERSION, ...profile });
}

function parseJson(content: string, what: string): unknown {
  try {
    return JSON.parse(content.startsWith("\uFEFF") ? content.slice(1) : content);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UsageError(`Cannot read ${what}: it is cut off or damaged, expected JSON`);
  }
}

function profileError(issue: v.BaseIssue<unknown>, what: string): UsageError {
  const path = v.getDotPath(issue) ?? "";
  if (issue.type === "strict_object" && issue.expected === "never")
    return new UsageError(
      `Cannot read ${what}: Unknown key "${path}"${suggestion(path, Object.keys(entries))}`,
    );
  const problem = issue.type === "strict_object" ? "it is missing" : issue.message;
  return new UsageError(`Cannot read ${what}: ${path}: ${problem}`);
}
