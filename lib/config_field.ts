/**
 * The kinds of values that settings have, each as a valibot schema from text (or a TOML value) to a checked value.
 *
 * Every message names the value in quotes and what would be right; a secret is never quoted.
 */

import * as v from "valibot";
import {
  type HostPort,
  type Prefix,
  parseAddress,
  parseHostPort,
  parseNetwork,
  parsePrefix,
} from "./address.ts";
import { parseDomainName } from "./domain_name.ts";
import { UsageError } from "./errors.ts";
import { MAX_MTU_BYTES, MIN_MTU_BYTES } from "./limits.ts";
import { suggestion } from "./nearest.ts";
import { Secret } from "./secret.ts";

/** A schema that takes anything and gives `T`. */
export type Field<T> = v.GenericSchema<unknown, T>;

/** Makes a schema of a function that throws {@link UsageError}. */
export function field<T>(read: (value: unknown) => T): Field<T> {
  return v.pipe(
    v.unknown(),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      try {
        return read(dataset.value);
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
        addIssue({ message: error.message });
        return NEVER;
      }
    }),
  );
}

/** Longest value that an error quotes. */
const MAX_QUOTED_LENGTH = 200;

/**
 * A value as text, to be read or quoted in an error. A TOML file may have a table or a list where text is expected, and
 * a table of the parser is an object without a prototype, which `String()` cannot convert.
 */
export function textOf(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  const json = JSON.stringify(value, (_key, item: unknown) => (typeof item === "bigint" ? `${item}` : item));
  return json.length > MAX_QUOTED_LENGTH ? `${json.slice(0, MAX_QUOTED_LENGTH)}…` : json;
}

/** Any text but the empty one. */
export const textField: Field<string> = field(readText);

/** `true` or `false`. */
export const booleanField: Field<boolean> = field((value) => {
  if (typeof value === "boolean") return value;
  throw new UsageError(`Cannot use "${textOf(value)}": expected true or false`);
});

/** A password: any text but the empty one, at most 1,024 characters; never quoted in an error. */
export const secretField: Field<Secret> = field((value) => {
  if (value instanceof Secret) return value;
  if (typeof value !== "string") throw new UsageError("Cannot use the password: expected text in quotes");
  return makeSecret(value);
});

/** Longest password in UTF-16 units: far above any in use, far below what would make the key derivation slow. */
const MAX_PASSWORD_LENGTH = 1024;

/** @throws {UsageError} when the password is empty or too long */
export function makeSecret(text: string): Secret {
  if (text === "") throw new UsageError("Cannot use an empty password: expected at least one character");
  if (text.length > MAX_PASSWORD_LENGTH) {
    throw new UsageError(`Cannot use the password: expected at most ${MAX_PASSWORD_LENGTH} characters`);
  }
  return new Secret(text);
}

/** A whole number within bounds. */
export function integerField(least: number, most: number): Field<number> {
  return field((value) => readInteger(value, least, most));
}

/** One of several words. */
export function choiceField<const T extends string>(choices: readonly T[]): Field<T> {
  return field((value) => {
    const text = readText(value);
    const found = choices.find((choice) => choice === text);
    if (found !== undefined) return found;
    throw new UsageError(
      `Cannot use "${text}": expected ${choices.join(" or ")}${suggestion(text, choices)}`,
    );
  });
}

/** `auto` or a number of bytes. */
export const mtuField: Field<number | "auto"> = field((value) => {
  if (value === "auto") return value;
  if (!/^[0-9]+$/.test(textOf(value))) {
    throw new UsageError(
      `Cannot use "${textOf(value)}" as MTU: expected auto or ${MIN_MTU_BYTES} to ${MAX_MTU_BYTES}`,
    );
  }
  return readInteger(value, MIN_MTU_BYTES, MAX_MTU_BYTES);
});

/** A length of time with its unit (`500ms`, `10s`, `2m`, `1h`), in milliseconds. */
export function durationField(leastMs: number, mostMs: number): Field<number> {
  return field((value) => {
    const milliseconds = parseDuration(textOf(value));
    if (milliseconds < leastMs || milliseconds > mostMs) {
      const range = `${formatDuration(leastMs)} to ${formatDuration(mostMs)}`;
      throw new UsageError(`Cannot use "${textOf(value)}": expected ${range}`);
    }
    return milliseconds;
  });
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/**
 * Reads a duration in milliseconds.
 *
 * @throws {UsageError} when it is not a number with one of the units ms, s, m, h
 */
export function parseDuration(text: string): number {
  const match = /^([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h)$/.exec(text);
  const unit = UNIT_MS[match?.[2] ?? ""];
  if (match === null || unit === undefined) {
    throw new UsageError(
      `Cannot read duration "${text}": expected a number and its unit, for example 500ms, 10s or 2m`,
    );
  }
  return Math.round(Number(match[1]) * unit);
}

/** Writes a duration in its largest whole unit. */
export function formatDuration(milliseconds: number): string {
  for (const unit of ["h", "m", "s"]) {
    const size = UNIT_MS[unit] ?? 1;
    if (milliseconds >= size && milliseconds % size === 0) return `${milliseconds / size}${unit}`;
  }
  return `${milliseconds}ms`;
}

/** `HOST:PORT`, where the host may be left out. */
export function hostPortField(defaultPort: number): Field<HostPort> {
  return field((value) => parseHostPort(readText(value), defaultPort));
}

/** An address with prefix length, as of an interface. */
export const prefixField: Field<Prefix> = field((value) => parsePrefix(readText(value)));

/** A comma-separated text or a list of texts, each read by `read`. */
export function listField<T>(read: (text: string) => T): Field<readonly T[]> {
  return field((value) => {
    const texts = Array.isArray(value) ? value.map(readText) : [readText(value)];
    return texts
      .flatMap((text) => text.split(","))
      .map((part) => {
        const text = part.trim();
        if (text === "") throw new UsageError(`Cannot read the list "${texts.join(",")}": an entry is empty`);
        return read(text);
      });
  });
}

/** Networks in CIDR form; a single address stands for itself. */
export const networksField: Field<readonly string[]> = listField((text) => parseNetwork(text).text);
/** Addresses without a prefix length. */
export const addressesField: Field<readonly string[]> = listField((text) => parseAddress(text).text);

/** Domain names. */
export const domainsField: Field<readonly string[]> = listField(parseDomainName);

/** Longest interface name: IFNAMSIZ less its final zero (net/if.h). */
const MAX_INTERFACE_NAME_LENGTH = 15;

/** Name of a network interface, as Linux takes it (`dev_valid_name` in net/core/dev.c), and of `utun` on macOS. */
export const interfaceNameField: Field<string> = field((value) => {
  const text = readText(value);
  if (text.length > MAX_INTERFACE_NAME_LENGTH || !/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(text)) {
    throw new UsageError(
      `Cannot use "${text}" as interface name: expected 1 to ${MAX_INTERFACE_NAME_LENGTH} letters, digits, "_", "." or "-"`,
    );
  }
  return text;
});

function readText(value: unknown): string {
  if (typeof value === "string" && value !== "") return value;
  if (value === "") throw new UsageError('Cannot use "": expected a value');
  throw new UsageError(`Cannot use "${textOf(value)}": expected text in quotes`);
}

function readInteger(value: unknown, least: number, most: number): number {
  const number = typeof value === "string" && /^[0-9]{1,10}$/.test(value) ? Number(value) : value;
  if (typeof number === "number" && Number.isInteger(number) && number >= least && number <= most)
    return number;
  throw new UsageError(`Cannot use "${textOf(value)}": expected a whole number from ${least} to ${most}`);
}
