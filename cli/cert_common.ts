/** What the commands about certificates share: their flags, the state directory, and the running server. */

import { readServerSettings, type ServerSettings } from "../lib/config_server.ts";
import { requestAction } from "../lib/control_socket.ts";
import { NotRunningError, UsageError } from "../lib/errors.ts";
import { type Instance, openInstance } from "../lib/instance.ts";
import { type FlagValues, valueFlag } from "./flags.ts";
import { openSettings } from "./settings.ts";
import { INSTANCE_FLAGS } from "./tunnel_flags.ts";

/** Days that a certificate of a server or client is good for, unless a flag says otherwise. */
export const DEFAULT_DAYS = 365;
/** Longest time of a certificate: a century is as good as for ever. */
const MAX_DAYS = 36_500;

/** A flag for the days that a certificate is good for. */
export function daysFlag(days: number) {
  return valueFlag("DAYS", `Days until the certificate expires (default ${days})`);
}

/** @throws {UsageError} when the flag is no whole number of days */
export function readDays(flags: FlagValues, defaultDays: number): number {
  const text = flags["days"];
  if (text === undefined) return defaultDays;
  const days = typeof text === "string" && /^[0-9]{1,5}$/.test(text) ? Number(text) : 0;
  if (days >= 1 && days <= MAX_DAYS) return days;
  throw new UsageError(`--days: Cannot use "${String(text)}": expected a whole number from 1 to ${MAX_DAYS}`);
}

/** The texts of a repeatable flag, whose values may also be separated by commas. */
export function readList(flags: FlagValues, name: string): readonly string[] {
  const value = flags[name];
  const texts = Array.isArray(value) ? (value as readonly string[]) : [];
  return texts.flatMap((text) => text.split(",").map((part) => part.trim())).filter((part) => part !== "");
}

/** The server's settings, from flags, environment and file; of the flags only those that tell instances apart. */
export async function serverSettings(flags: FlagValues): Promise<ServerSettings> {
  const names = Object.keys(INSTANCE_FLAGS);
  const own = Object.fromEntries(Object.entries(flags).filter(([name]) => names.includes(name)));
  return readServerSettings(await openSettings(own, process.env).layers()).values;
}

/** The server's instance. */
export async function serverInstance(flags: FlagValues): Promise<Instance> {
  const settings = await serverSettings(flags);
  return openInstance("server", settings.tun, settings["state-dir"]);
}

/** Has the running server read its certificates again. @returns what came of it, for a person */
export async function tellServer(instance: Instance): Promise<string> {
  try {
    return await requestAction(instance, "certificates");
  } catch (error) {
    if (!(error instanceof NotRunningError)) throw error;
    return `No server runs with interface "${instance.tun}": it takes effect when one starts`;
  }
}

export function printLine(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** A day as ISO 8601 writes it, in UTC. */
export function formatDay(milliseconds: number): string {
  return new Date(milliseconds).toISOString().slice(0, 10);
}
