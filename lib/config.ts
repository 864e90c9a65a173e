/**
 * Settings from several layers (flags, environment, file), merged and checked by one valibot schema.
 *
 * Flags and file share their keys and their rules, so an error reads the same wherever the value stood. The schemas
 * are in `config_server.ts` and `config_client.ts`, the kinds of values in `config_field.ts`.
 */

import * as v from "valibot";
import { UsageError } from "./errors.ts";
import { suggestion } from "./nearest.ts";

/** Settings of one source. */
export interface SettingsLayer {
  /** By kebab-case key; texts and lists of texts from flags, any TOML value from a file. */
  readonly values: Readonly<Record<string, unknown>>;
  /** Names the place of a key for an error message, for example `--mtu` or `/etc/omail/server.toml:3: mtu`. */
  readonly describe: (path: readonly (string | number)[]) => string;
}

/** Settings after merging. */
export interface ResolvedSettings<T> {
  readonly values: T;
  /** The layer that a top-level key came from; undefined for a default. */
  readonly layerOf: (key: string) => SettingsLayer | undefined;
}

/** The schemas this module takes: one strict table. */
type TableSchema = v.StrictObjectSchema<v.ObjectEntries, undefined>;

/** Keys that say the same thing in two ways: the first layer that has one of them hides all in later layers. */
const ALTERNATIVES: readonly string[] = ["password", "password-file"];

/**
 * Merges layers, the first of which wins, and checks the result.
 *
 * @throws {UsageError} naming the first wrong key or value, its place and what would be right
 */
export function resolveSettings<Schema extends TableSchema>(
  schema: Schema,
  layers: readonly SettingsLayer[],
): ResolvedSettings<v.InferOutput<Schema>> {
  const merged: Record<string, unknown> = {};
  const origin = new Map<string, SettingsLayer>();
  for (const layer of layers) {
    refuseBoth(layer);
    const hidden = ALTERNATIVES.some((key) => origin.has(key)) ? ALTERNATIVES : [];
    for (const [key, value] of Object.entries(layer.values)) {
      if (value === undefined || origin.has(key) || hidden.includes(key)) continue;
      merged[key] = value;
      origin.set(key, layer);
    }
  }
  const result = v.safeParse(schema, merged, { abortEarly: true });
  if (!result.success) throw settingsError(schema, result.issues[0], origin);
  return { values: result.output, layerOf: (key) => origin.get(key) };
}

function refuseBoth({ values, describe }: SettingsLayer): void {
  const given = ALTERNATIVES.filter((key) => values[key] !== undefined);
  if (given.length < 2) return;
  throw new UsageError(
    `Cannot use ${given.map((key) => describe([key])).join(" and ")} together: expected one of them`,
  );
}

/**
 * Reads the text of a TOML file as a layer.
 *
 * @param path names the file in error messages
 * @throws {UsageError} with file, line and column when the text is not TOML
 */
export async function parseConfigText(text: string, path: string): Promise<SettingsLayer> {
  // Loaded only where a file is given: most starts of a client have none.
  const { parse, TomlError } = await import("smol-toml");
  try {
    const values = parse(text);
    return { values, describe: (key) => `${path}${lineOf(text, key)}: ${key.join(".")}` };
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const reason = error.message.split("\n")[0] ?? "";
    throw new UsageError(`${path}:${error.line}:${error.column}: Cannot read the file as TOML: ${reason}`);
  }
}

/** Line of a key in TOML text as `:N`; empty when it cannot be told. The parser gives lines of syntax errors only. */
function lineOf(text: string, path: readonly (string | number)[]): string {
  const key = path.findLast((part) => typeof part === "string");
  if (key === undefined) return "";
  // Of the tables of a list, the n-th occurrence is meant.
  const skip = path.find((part) => typeof part === "number") ?? 0;
  const lines = text.split("\n");
  const hits = lines.flatMap((line, index) => {
    const name = /^\s*"?([A-Za-z0-9_-]+)"?\s*=|^\s*\[\[?\s*"?([A-Za-z0-9_-]+)/.exec(line);
    return name !== null && (name[1] ?? name[2]) === key ? [index + 1] : [];
  });
  const line = hits[skip] ?? hits[0];
  return line === undefined ? "" : `:${line}`;
}

function settingsError(
  schema: TableSchema,
  issue: v.BaseIssue<unknown>,
  origin: ReadonlyMap<string, SettingsLayer>,
): UsageError {
  const path = (issue.path ?? []).map((item) => (typeof item.key === "number" ? item.key : String(item.key)));
  const place = origin.get(String(path[0]))?.describe(path) ?? path.join(".");
  if (issue.type === "strict_object" && issue.expected === "never") {
    const key = String(path.at(-1));
    return new UsageError(`${place}: Unknown key "${key}"${suggestion(key, knownKeys(schema, path.length))}`);
  }
  if (issue.type === "strict_object") return new UsageError(`${place}: Missing, or not a table`);
  if (issue.type === "array") return new UsageError(`${place}: Expected a list`);
  return new UsageError(`${place}: ${issue.message}`);
}

/** Names allowed at a depth: those of the schema itself, or those of the tables inside its lists. */
function knownKeys(schema: TableSchema, depth: number): readonly string[] {
  if (depth <= 1) return Object.keys(schema.entries);
  return NESTED_KEYS;
}

/** Keys of `[[users]]` and `[[policy]]`, the tables in lists. */
const NESTED_KEYS = [
  "name",
  "password",
  "allow-from",
  "deny-from",
  "groups",
  "who",
  "networks",
  "proto",
  "ports",
] as const;
