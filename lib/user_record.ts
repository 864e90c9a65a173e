/**
 * A user of a server as the database keeps it, and the texts that an administrator writes for each setting.
 *
 * Pure: values and texts only. `user_store.ts` keeps records, `user_rules.ts` judges them.
 */

import * as v from "valibot";
import { parseAddress, parseNetwork } from "./address.ts";
import { AUTH_MODES, type AuthMode } from "./auth_mode.ts";
import { UsageError } from "./errors.ts";
import { MAX_PUSHED_ROUTES } from "./limits.ts";

/** Longest user name and longest group label, in UTF-16 units. */
export const MAX_NAME_LENGTH = 64;
/** Entries of each list of one user. */
const MAX_LIST_ENTRIES = 64;

/** What a user may use at most; null is no limit. */
export interface UserLimits {
  /** Sessions at once. */
  readonly devices: number | null;
  /** Inner packets that a session sends us, in bits a second. */
  readonly upBitsPerSecond: number | null;
  /** Inner packets that we send a session, in bits a second. */
  readonly downBitsPerSecond: number | null;
  /** Inner packets of a session a second, counted for each direction. */
  readonly packetsPerSecond: number | null;
  /** Inner bytes of both directions and all sessions in a calendar month (UTC). */
  readonly quotaBytes: number | null;
}

/** What an administrator decides about a user, but for the credentials. */
export interface UserSettings {
  /** What the user has to prove; null is what the server wants of everybody. */
  readonly auth: AuthMode | null;
  /** Milliseconds since the Unix epoch from which the user is refused; null is never. */
  readonly expiresAtMs: number | null;
  /** Inner addresses of the user's own, at most one of each family. */
  readonly addresses: readonly string[];
  /** Networks that are reached through the user's client (CIDR). */
  readonly networks: readonly string[];
  /** Networks that the client routes into the tunnel, besides those of the server (CIDR). */
  readonly routes: readonly string[];
  /** Labels for the access policy. */
  readonly groups: readonly string[];
  readonly limits: UserLimits;
}

/** What a server stores of a password; the fields are those of SCRAM-SHA-256 (RFC 5802, section 3). */
export interface StoredVerifier {
  readonly salt: Uint8Array<ArrayBuffer>;
  readonly iterations: number;
  readonly storedKey: Uint8Array<ArrayBuffer>;
  readonly serverKey: Uint8Array<ArrayBuffer>;
}

/** The second factor of a user (RFC 6238). */
export interface StoredTotp {
  readonly secret: Uint8Array<ArrayBuffer>;
  /** Newest time step whose code was used; -1 before the first. */
  readonly lastStep: number;
}

/** One user. */
export interface UserRecord extends UserSettings {
  /** As `prepareText` returned it. */
  readonly name: string;
  readonly enabled: boolean;
  /** One that no password fits for a user who was never given any. */
  readonly verifier: StoredVerifier;
  readonly totp: StoredTotp | null;
}

/** A user without limits, as one of the configuration file is. */
export const DEFAULT_USER_SETTINGS: UserSettings = {
  auth: null,
  expiresAtMs: null,
  addresses: [],
  networks: [],
  routes: [],
  groups: [],
  limits: {
    devices: null,
    upBitsPerSecond: null,
    downBitsPerSecond: null,
    packetsPerSecond: null,
    quotaBytes: null,
  },
};

// --- As JSON ---

const whole = (least: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(least), v.maxValue(Number.MAX_SAFE_INTEGER));
const limit = v.optional(v.nullable(whole(1)), null);
const checked = (read: (text: string) => string) =>
  v.pipe(
    v.string(),
    v.check((text) => canRead(read, text)),
  );
const list = (read: (text: string) => string, most = MAX_LIST_ENTRIES) =>
  v.optional(v.pipe(v.array(checked(read)), v.maxLength(most)), []);

const settingsSchema = v.strictObject({
  auth: v.optional(v.nullable(v.picklist(AUTH_MODES)), null),
  expiresAtMs: v.optional(v.nullable(whole(0)), null),
  addresses: list(readAddress, 2),
  networks: list(readSiteNetwork),
  routes: list(readRoute, MAX_PUSHED_ROUTES),
  groups: list(readGroup),
  limits: v.optional(
    v.strictObject({
      devices: limit,
      upBitsPerSecond: limit,
      downBitsPerSecond: limit,
      packetsPerSecond: limit,
      quotaBytes: limit,
    }),
    {},
  ),
});

/** @returns null when the text is not what {@link encodeSettings} writes */
export function decodeSettings(json: string): UserSettings | null {
  try {
    const result = v.safeParse(settingsSchema, JSON.parse(json));
    return result.success ? result.output : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/** Writes the settings of a record as one JSON object; defaults are left out, so that a later default counts. */
export function encodeSettings(settings: UserSettings): string {
  const { auth, expiresAtMs, addresses, networks, routes, groups, limits } = settings;
  const values = {
    auth,
    expiresAtMs,
    addresses,
    networks,
    routes,
    groups,
    limits: withoutDefaults({ ...limits }),
  };
  return JSON.stringify(withoutDefaults(values));
}

function withoutDefaults(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => !isDefault(value)));
}

/** No date or limit, and an empty list or set of limits. */
function isDefault(value: unknown): boolean {
  return value === null || (typeof value === "object" && Object.keys(value).length === 0);
}

// --- As an administrator writes it ---

/**
 * Judges a name that `prepareText` returned.
 *
 * @throws {UsageError} when it is too long, or has white space at its ends or a slash
 */
export function readUserName(name: string): string {
  if (name.length <= MAX_NAME_LENGTH && /^[^\s/-](?:[^/]*[^\s/])?$/u.test(name)) return name;
  throw new UsageError(
    `Cannot use "${name}" as a user name: expected 1 to ${MAX_NAME_LENGTH} characters without "/", ` +
      'no "-" in front and no white space at the ends',
  );
}

/** @throws {UsageError} when the text is not one of {@link AUTH_MODES} */
export function readAuthMode(text: string): AuthMode {
  const mode = AUTH_MODES.find((word) => word === text);
  if (mode !== undefined) return mode;
  throw new UsageError(`Cannot use "${text}" as what a client must prove: expected ${AUTH_MODES.join(", ")}`);
}

/** @throws {UsageError} when the text is not an IP address */
export function readAddress(text: string): string {
  return parseAddress(text).text;
}

/** @throws {UsageError} when the text is not a network in CIDR form */
export function readRoute(text: string): string {
  return parseNetwork(text).text;
}

/**
 * A network behind a client; not everything, which would take the way to all other clients.
 *
 * @throws {UsageError} when the text is not a network in CIDR form, or its length is 0
 */
export function readSiteNetwork(text: string): string {
  const network = parseNetwork(text);
  if (network.length > 0) return network.text;
  throw new UsageError(
    `Cannot use "${text}" as the network behind a client: expected one with a length over 0`,
  );
}

/** @throws {UsageError} when the label is empty, too long or has other characters */
export function readGroup(text: string): string {
  if (text.length <= MAX_NAME_LENGTH && /^[\p{L}\p{N}][\p{L}\p{N}_.-]*$/u.test(text)) return text;
  throw new UsageError(
    `Cannot use "${text}" as a group: expected 1 to ${MAX_NAME_LENGTH} letters, digits, "_", "." or "-"`,
  );
}

const RATE_UNITS: Readonly<Record<string, number>> = { kbit: 1e3, mbit: 1e6, gbit: 1e9 };
/** A slower session could not carry its own keep-alives and a full packet within a second. */
const MIN_BITS_PER_SECOND = 64_000;

/**
 * Reads a rate such as `20mbit`, as tc(8) writes it.
 *
 * @returns bits a second
 * @throws {UsageError} when it is not a number with one of the units kbit, mbit, gbit, or under 64kbit
 */
export function readRate(text: string): number {
  const match = /^([0-9]{1,9}(?:\.[0-9]{1,3})?)(kbit|mbit|gbit)$/i.exec(text);
  const rate = Math.round(Number(match?.[1]) * (RATE_UNITS[match?.[2]?.toLowerCase() ?? ""] ?? Number.NaN));
  if (rate >= MIN_BITS_PER_SECOND) return rate;
  throw new UsageError(
    `Cannot use "${text}" as a rate: expected a number and its unit, for example 500kbit or 20mbit, at least 64kbit`,
  );
}

/** Writes a rate in its largest unit that leaves at most three decimals. */
export function formatRate(bitsPerSecond: number): string {
  return formatUnits(bitsPerSecond, RATE_UNITS) ?? `${bitsPerSecond}bit`;
}

const SIZE_UNITS: Readonly<Record<string, number>> = {
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/**
 * Reads an amount of data such as `50GB` (decimal) or `50GiB` (binary).
 *
 * @returns bytes
 * @throws {UsageError} when it is not a number over 0 with one of the units MB, GB, TB, MiB, GiB, TiB
 */
export function readSize(text: string): number {
  const match = /^([0-9]{1,6}(?:\.[0-9]{1,3})?)([MGT]i?B)$/.exec(text);
  const bytes = Math.round(Number(match?.[1]) * (SIZE_UNITS[match?.[2] ?? ""] ?? Number.NaN));
  if (bytes >= 1) return bytes;
  throw new UsageError(
    `Cannot use "${text}" as an amount: expected a number and its unit, for example 500MB, 50GB or 1TiB`,
  );
}

/** Writes an amount of data in a unit that gives it exactly; rounded to a tenth where none does. */
export function formatSize(bytes: number): string {
  const { MB = 1, GB = 1, TB = 1, ...binary } = SIZE_UNITS;
  const exact = formatUnits(bytes, { MB, GB, TB }) ?? formatUnits(bytes, binary);
  if (exact !== null) return exact;
  if (bytes < MB) return `${bytes}B`;
  const [unit, size] = bytes >= TB ? ["TB", TB] : bytes >= GB ? ["GB", GB] : ["MB", MB];
  return `${(bytes / size).toFixed(1)}${unit}`;
}

function formatUnits(value: number, units: Readonly<Record<string, number>>): string | null {
  for (const [unit, size] of Object.entries(units).toReversed()) {
    const text = String(Math.round((value / size) * 1000) / 1000);
    if (value >= size && Math.round(Number(text) * size) === value) return `${text}${unit}`;
  }
  return null;
}

/** @throws {UsageError} when it is not a whole number from 1 to `most` */
export function readCount(text: string, most: number): number {
  if (/^[1-9][0-9]{0,8}$/.test(text) && Number(text) <= most) return Number(text);
  throw new UsageError(`Cannot use "${text}": expected a whole number from 1 to ${most}`);
}

const DAY_MS = 86_400_000;
const SPAN_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: DAY_MS };

/**
 * Reads when a user expires: a day (`2027-01-31`: that whole day in UTC is still good), a moment
 * (`2027-01-31T12:00:00Z`), or a time from now (`90d`, `12h`, `30m`, `20s`).
 *
 * @param nowMs milliseconds since the Unix epoch
 * @returns the first millisecond in which the user is refused
 * @throws {UsageError} when it is none of these, or no day of the calendar
 */
export function readExpiry(text: string, nowMs: number): number {
  const span = /^([1-9][0-9]{0,4})([smhd])$/.exec(text);
  if (span !== null) return nowMs + Number(span[1]) * (SPAN_MS[span[2] ?? ""] ?? 0);
  const day = /^(\d{4}-\d{2}-\d{2})(T\d{2}:\d{2}(?::\d{2})?Z)?$/.exec(text);
  const atMs = day === null ? Number.NaN : Date.parse(text);
  // Date.parse takes the 31st of February for a day in March
  if (day !== null && atMs >= 0 && new Date(atMs).toISOString().startsWith(day[1] ?? "")) {
    return day[2] === undefined ? atMs + DAY_MS : atMs;
  }
  throw new UsageError(
    `Cannot use "${text}" as an expiry date: expected a day such as 2027-01-31, 2027-01-31T12:00:00Z, or a time such as 90d`,
  );
}

function canRead(read: (text: string) => unknown, text: string): boolean {
  try {
    read(text);
    return true;
  } catch (error) {
    if (error instanceof UsageError) return false;
    throw error;
  }
}
