/** Flags of `omail-server user`: the settings of a user, from texts to a record's values. */

import type { ArgsDef } from "citty";
import { AUTH_MODES } from "../lib/auth_mode.ts";
import { UsageError } from "../lib/errors.ts";
import {
  readAddress,
  readAuthMode,
  readCount,
  readExpiry,
  readGroup,
  readRate,
  readRoute,
  readSiteNetwork,
  readSize,
  type UserLimits,
  type UserSettings,
} from "../lib/user_record.ts";
import { type FlagValues, listFlag, valueFlag } from "./flags.ts";

/** The user that a command is about. */
export const NAME_ARGUMENT = {
  name: { type: "positional", description: "Name of the user", required: true },
} as const satisfies ArgsDef;

export const PASSWORD_FLAGS = {
  "password-file": valueFlag(
    "FILE",
    "File with the password, - for standard input (else OMAIL_PASSWORD, or you are asked)",
  ),
} as const satisfies ArgsDef;

/** Every one takes `none`, which is the value of a user without it. */
export const SETTING_FLAGS = {
  auth: valueFlag(
    "WHAT",
    `What this user must prove: ${AUTH_MODES.join(", ")} (default: --auth of the server)`,
  ),
  expires: valueFlag(
    "DATE",
    "Last day (2027-01-31), moment (2027-01-31T12:00:00Z) or time from now (90d), in UTC",
  ),
  address: listFlag("IP", "Inner address that is always this user's, at most one of each family"),
  network: listFlag("CIDR", "Network behind the user's client, reached through it (site to site)"),
  route: listFlag("CIDR", "Network that the client routes into the tunnel, besides those of --push-route"),
  group: listFlag("LABEL", "Group of the access policy"),
  devices: valueFlag("N", "Most sessions at once"),
  "rate-up": valueFlag("RATE", "Most that a session may send, such as 20mbit"),
  "rate-down": valueFlag("RATE", "Most that a session may receive, such as 20mbit"),
  "packet-rate": valueFlag("N", "Most packets a second of a session, each direction"),
  quota: valueFlag("SIZE", "Most data a calendar month (UTC), both directions together, such as 50GB"),
} as const satisfies ArgsDef;

/** Word that takes a setting away. */
const NONE = "none";
/** Sessions of one user; as many as a server can have at all. */
const MAX_DEVICES = 65_534;
const MAX_PACKETS_PER_SECOND = 100_000_000;

/**
 * What the given flags make of a user's settings; flags that were not given leave theirs as they were.
 *
 * @throws {UsageError} naming the flag and the value that is wrong
 */
export function applySettingFlags(settings: UserSettings, flags: FlagValues, nowMs: number): UserSettings {
  const { limits } = settings;
  const one = <T>(flag: keyof typeof SETTING_FLAGS, before: T | null, read: (text: string) => T): T | null =>
    readOne(flags, flag, before, read);
  const many = (
    flag: keyof typeof SETTING_FLAGS,
    before: readonly string[],
    read: (text: string) => string,
  ): readonly string[] => readMany(flags, flag, before, read);
  const changed: UserLimits = {
    devices: one("devices", limits.devices, (text) => readCount(text, MAX_DEVICES)),
    upBitsPerSecond: one("rate-up", limits.upBitsPerSecond, readRate),
    downBitsPerSecond: one("rate-down", limits.downBitsPerSecond, readRate),
    packetsPerSecond: one("packet-rate", limits.packetsPerSecond, (text) =>
      readCount(text, MAX_PACKETS_PER_SECOND),
    ),
    quotaBytes: one("quota", limits.quotaBytes, readSize),
  };
  return {
    auth: one("auth", settings.auth, readAuthMode),
    expiresAtMs: one("expires", settings.expiresAtMs, (text) => readExpiry(text, nowMs)),
    addresses: many("address", settings.addresses, readAddress),
    networks: many("network", settings.networks, readSiteNetwork),
    routes: many("route", settings.routes, readRoute),
    groups: many("group", settings.groups, readGroup),
    limits: changed,
  };
}

/** The flags of {@link SETTING_FLAGS} that were given. */
export function settingFlagsIn(flags: FlagValues): readonly string[] {
  return Object.keys(SETTING_FLAGS).filter((name) => Object.hasOwn(flags, name));
}

function readOne<T>(flags: FlagValues, flag: string, before: T | null, read: (text: string) => T): T | null {
  const text = flags[flag];
  if (typeof text !== "string") return before;
  return text === NONE ? null : naming(flag, () => read(text));
}

function readMany(
  flags: FlagValues,
  flag: string,
  before: readonly string[],
  read: (text: string) => string,
): readonly string[] {
  const given = flags[flag];
  if (!Array.isArray(given)) return before;
  const texts = (given as readonly string[]).flatMap((text) => text.split(",")).map((text) => text.trim());
  if (texts.length === 1 && texts[0] === NONE) return [];
  return naming(flag, () => [...new Set(texts.map(read))]);
}

function naming<T>(flag: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(`--${flag}: ${error.message}, or ${NONE}`);
  }
}
