/** Settings of the server: which keys there are, their defaults and bounds, and how they fit together. */

import * as v from "valibot";
import { POLICY_DEFAULTS, type PolicyDefault, type PolicyRule } from "./access_policy.ts";
import { type HostPort, type Prefix, makePrefix, networkOf, parseAddress, parsePrefix } from "./address.ts";
import { policyRuleSchema } from "./config_policy.ts";
import { resolveSettings, type ResolvedSettings, type SettingsLayer } from "./config.ts";
import {
  addressesField,
  booleanField,
  choiceField,
  domainsField,
  durationField,
  field,
  hostPortField,
  integerField,
  listField,
  interfaceNameField,
  mtuField,
  networksField,
  secretField,
  textField,
  textOf,
} from "./config_field.ts";
import { AUTH_MODES, type AuthMode, needsPassword, takesCertificate } from "./auth_mode.ts";
import { UsageError } from "./errors.ts";
import {
  DEFAULT_MTU_BYTES,
  DEFAULT_PORT,
  HANDSHAKES_PER_SECOND,
  KEEPALIVE_MS,
  MIN_IPV6_MTU_BYTES,
  REKEY_AFTER_MS,
} from "./limits.ts";
import type { EngineName } from "./data_plane_message.ts";
import { LOG_LEVELS } from "./log.ts";
import type { Secret } from "./secret.ts";

/** A person or machine that may log in. */
export interface UserCredential {
  readonly name: string;
  /** Null for one who logs in by certificate. */
  readonly password: Secret | null;
  /** What this user must show; null is what the server asks of everybody. */
  readonly auth: AuthMode | null;
  readonly allowFrom: readonly string[];
  readonly denyFrom: readonly string[];
  /** Names for the access policy. */
  readonly groups: readonly string[];
}

/** Whose certificates clients may log in with. */
export interface ClientAuthConfig {
  readonly mode: AuthMode;
  /** Files of a company's authority; `own` is the one in the state directory; null when there is none. */
  readonly ca: { readonly ca: string; readonly crl: string | null } | "own" | null;
  /** Accept certificates only of users who are in the list or have a password. */
  readonly knownUsersOnly: boolean;
}

/** What a server is started with. */
export interface ServerConfig {
  readonly listen: HostPort;
  readonly users: readonly UserCredential[];
  readonly auth: ClientAuthConfig;
  readonly tun: string;
  /** The server's inner IPv4 address with the prefix length of the pool. */
  readonly address4: Prefix;
  /** The inner IPv6 address; `random` is a unique local /64 kept in the state directory; null is none. */
  readonly address6: Prefix | "random" | null;
  readonly mtuBytes: number;
  readonly nat: boolean;
  readonly pushRoutes: readonly string[];
  readonly pushDns: readonly string[];
  readonly pushDomains: readonly string[];
  /** Outer networks that may connect; empty means all. */
  readonly allowFrom: readonly string[];
  /** Outer networks that may not connect; wins over `allowFrom`. */
  readonly denyFrom: readonly string[];
  /** Handshakes that one outer address may start a second. */
  readonly handshakeRate: number;
  readonly maxClients: number;
  /** What happens to log-ins while the audit log cannot be written. */
  readonly auditFull: "refuse" | "continue";
  /** Which user may reach what; see `access_policy.ts`. */
  readonly policy: readonly PolicyRule[];
  readonly policyDefault: PolicyDefault;
  readonly stateDir: string;
  readonly engine: EngineName;
  readonly rekeyAfterMs: number;
  readonly keepaliveMs: number;
  /** PEM files; null makes a self-signed certificate in the state directory. */
  readonly certificateFiles: { readonly cert: string; readonly key: string } | null;
}

/** The user of a bare `--password`. */
export const DEFAULT_USER = "default";
export const DEFAULT_STATE_DIR = "/var/lib/omail";
export const DEFAULT_TUN = "omail0";

/** Settings that every command of both programs shares. */
export const SHARED_ENTRIES = {
  tun: v.optional(interfaceNameField, DEFAULT_TUN),
  "state-dir": v.optional(textField, DEFAULT_STATE_DIR),
  "log-level": v.optional(choiceField(LOG_LEVELS), "info"),
  "log-format": v.optional(choiceField(["text", "json"]), "text"),
} as const;

/** Settings of running either program. */
export const TUNNEL_ENTRIES = {
  ...SHARED_ENTRIES,
  password: v.optional(secretField),
  "password-file": v.optional(textField),
  mtu: v.optional(mtuField, "auto"),
  engine: v.optional(choiceField(["web", "sync"]), "web"),
  keepalive: v.optional(durationField(1_000, 25_000), `${KEEPALIVE_MS}ms`),
} as const;

/** A day: keys that live longer defeat their purpose. */
const MAX_REKEY_MS = 24 * 3_600_000;

/** A group's name: what a policy writes behind `@`. */
function readGroup(text: string): string {
  if (/^[A-Za-z0-9_.-]{1,64}$/.test(text)) return text;
  throw new UsageError(`Cannot use "${text}" as a group: expected letters, digits, "-", "_", "."`);
}

const userSchema = v.pipe(
  v.strictObject({
    name: textField,
    password: v.optional(secretField),
    auth: v.optional(choiceField(AUTH_MODES)),
    "allow-from": v.optional(networksField, []),
    "deny-from": v.optional(networksField, []),
    groups: v.optional(listField(readGroup), []),
  }),
  v.transform(({ name, password = null, auth = null, groups, ...lists }) => ({
    name,
    password,
    auth,
    groups,
    allowFrom: lists["allow-from"],
    denyFrom: lists["deny-from"],
  })),
);

const serverSchema = v.strictObject({
  ...TUNNEL_ENTRIES,
  address: v.optional(hostPortField(DEFAULT_PORT), `:${DEFAULT_PORT}`),
  users: v.optional(v.array(userSchema), []),
  auth: v.optional(choiceField(AUTH_MODES)),
  ca: v.optional(textField),
  crl: v.optional(textField),
  "cert-users": v.optional(choiceField(["all", "known"])),
  "tun-ip": v.optional(field(readTunIp), "10.8.0.1/24"),
  "tun-netmask": v.optional(field(readNetmask)),
  "tun-ip6": v.optional(field(readTunIp6), "auto"),
  nat: v.optional(booleanField, false),
  "push-route": v.optional(networksField, []),
  "push-dns": v.optional(addressesField, []),
  "push-domain": v.optional(domainsField, []),
  "allow-from": v.optional(networksField, []),
  "deny-from": v.optional(networksField, []),
  "handshake-rate": v.optional(integerField(1, 100_000), HANDSHAKES_PER_SECOND),
  "max-clients": v.optional(integerField(1, 65_534), 1_000),
  "audit-full": v.optional(choiceField(["refuse", "continue"]), "continue"),
  policy: v.optional(v.array(policyRuleSchema), []),
  "policy-default": v.optional(choiceField(POLICY_DEFAULTS), "pushed"),
  "rekey-after": v.optional(durationField(50, MAX_REKEY_MS), `${REKEY_AFTER_MS}ms`),
  cert: v.optional(textField),
  key: v.optional(textField),
});

/** Checked settings of the server by key, as {@link readServerSettings} gives them. */
export type ServerSettings = v.InferOutput<typeof serverSchema>;

/** Every key that a server's file may have; all but `users` and `policy` are flags too. */
export const SERVER_KEYS: readonly string[] = Object.keys(serverSchema.entries);

/**
 * Merges and checks layers, the first of which wins.
 *
 * @throws {UsageError} naming the first wrong key or value
 */
export function readServerSettings(layers: readonly SettingsLayer[]): ResolvedSettings<ServerSettings> {
  return resolveSettings(serverSchema, layers);
}

/**
 * Fits the settings together.
 *
 * @param password of the user `default`; null when there is none
 * @param hasAuthority whether the state directory holds a certificate authority
 * @throws {UsageError} when two settings contradict each other
 */
export function makeServerConfig(
  settings: ServerSettings,
  password: Secret | null,
  hasAuthority = false,
): ServerConfig {
  const mtuBytes = settings.mtu === "auto" ? DEFAULT_MTU_BYTES : settings.mtu;
  const address6 = settings["tun-ip6"];
  if (address6 !== null && mtuBytes < MIN_IPV6_MTU_BYTES) {
    throw new UsageError(
      `--mtu: Cannot use "${mtuBytes}" with IPv6: expected at least ${MIN_IPV6_MTU_BYTES}, or --tun-ip6 none`,
    );
  }
  const auth = clientAuth(settings, hasAuthority);
  return {
    listen: settings.address,
    users: joinUsers(settings.users, password, auth.mode),
    auth,
    tun: settings.tun,
    address4: tunAddress(settings["tun-ip"], settings["tun-netmask"]),
    address6,
    mtuBytes,
    nat: settings.nat,
    pushRoutes: settings["push-route"],
    pushDns: settings["push-dns"],
    pushDomains: settings["push-domain"],
    allowFrom: settings["allow-from"],
    denyFrom: settings["deny-from"],
    handshakeRate: settings["handshake-rate"],
    maxClients: settings["max-clients"],
    policy: settings.policy,
    policyDefault: settings["policy-default"],
    auditFull: settings["audit-full"],
    stateDir: settings["state-dir"],
    engine: settings.engine,
    rekeyAfterMs: settings["rekey-after"],
    keepaliveMs: settings.keepalive,
    certificateFiles: certificateFiles(settings.cert, settings.key),
  };
}

function joinUsers(
  listed: readonly UserCredential[],
  password: Secret | null,
  mode: AuthMode,
): readonly UserCredential[] {
  const users =
    password === null
      ? listed
      : [{ name: DEFAULT_USER, password, auth: null, allowFrom: [], denyFrom: [], groups: [] }, ...listed];
  const seen = new Set<string>();
  for (const { name } of users) {
    if (seen.has(name))
      throw new UsageError(`Cannot have the user "${name}" twice: expected one password for each`);
    seen.add(name);
  }
  const without = users.find((user) => user.password === null && needsPassword(user.auth ?? mode));
  if (without !== undefined) {
    throw new UsageError(
      `Cannot have the user "${without.name}" without a password: expected one, or auth = "cert" for this user`,
    );
  }
  return users;
}

function clientAuth(settings: ServerSettings, hasAuthority: boolean): ClientAuthConfig {
  const { ca: file, crl } = settings;
  if (file === undefined && crl !== undefined)
    throw new UsageError("Cannot use --crl alone: expected --ca with it");
  const ca = file === undefined ? (hasAuthority ? "own" : null) : { ca: file, crl: crl ?? null };
  const mode = settings.auth ?? (ca === null ? "password" : "any");
  const asking = [mode, ...settings.users.map((user) => user.auth ?? mode)].find(takesCertificate);
  if (asking !== undefined && ca === null) {
    throw new UsageError(
      `Cannot use auth "${asking}" without a certificate authority: make one with omail-server cert init, or give --ca FILE`,
    );
  }
  const known = settings["cert-users"] ?? (file === undefined ? "all" : "known");
  return { mode, ca, knownUsersOnly: known === "known" };
}

/**
 * Looks whether anybody could log in.
 *
 * @param stored users in the database of the state directory; asked only when the configuration has none
 * @throws {UsageError} when nobody could
 */
export function requireUsers({ users, auth }: ServerConfig, stored: () => number): void {
  // whoever has a certificate is a user
  if (users.length > 0 || !needsPassword(auth.mode) || stored() > 0) return;
  throw new UsageError(
    "Cannot start without a user: add one with omail-server user add NAME, or give the password of the user " +
      `"${DEFAULT_USER}" by OMAIL_PASSWORD or --password-file FILE, or [[users]] in the file of --config`,
  );
}

/**
 * The files of the server's own certificate; null when it has none.
 *
 * @throws {UsageError} when only one of the two is given
 */
export function certificateFiles(
  cert: string | undefined,
  key: string | undefined,
): ServerConfig["certificateFiles"] {
  if (cert === undefined && key === undefined) return null;
  if (cert !== undefined && key !== undefined) return { cert, key };
  const [given, missing] = cert === undefined ? ["--key", "--cert"] : ["--cert", "--key"];
  throw new UsageError(`Cannot use ${given} alone: expected ${missing} with it`);
}

/** `10.8.0.1/24`, or the original's bare `10.0.0.1` that takes its length from the netmask. */
interface TunIp {
  readonly prefix: Prefix;
  readonly bare: boolean;
}

function readTunIp(value: unknown): TunIp {
  const text = textOf(value);
  const prefix = parsePrefix(text);
  if (prefix.address.family !== 4) {
    throw new UsageError(
      `Cannot use "${text}": expected an IPv4 address, for example 10.8.0.1/24; IPv6 goes to --tun-ip6`,
    );
  }
  return { prefix, bare: !text.includes("/") };
}

function readTunIp6(value: unknown): Prefix | "random" | null {
  const text = textOf(value);
  if (text === "none") return null;
  if (text === "auto") return "random";
  const prefix = parsePrefix(text);
  if (prefix.address.family !== 6) {
    throw new UsageError(`Cannot use "${text}": expected an IPv6 address such as fd00:8::1/64, auto or none`);
  }
  return checkHostAddress(prefix, "");
}

/** Prefix length of a netmask such as `255.255.255.0`. */
function readNetmask(value: unknown): number {
  const text = textOf(value);
  const address = parseAddress(text);
  const bits = Array.from(address.bytes, (byte) => byte.toString(2).padStart(8, "0")).join("");
  if (address.family !== 4 || !/^1+0*$/.test(bits)) {
    throw new UsageError(`Cannot use "${text}" as netmask: expected one such as 255.255.255.0`);
  }
  return bits.lastIndexOf("1") + 1;
}

/** The original's default netmask, for an address without a length. */
const DEFAULT_PREFIX_LENGTH = 24;

function tunAddress(ip: TunIp, netmaskLength: number | undefined): Prefix {
  if (!ip.bare && netmaskLength !== undefined && netmaskLength !== ip.prefix.length) {
    throw new UsageError(
      `Cannot use --tun-netmask with "${ip.prefix.text}": its length says something else, expected one of the two`,
    );
  }
  const length = ip.bare ? (netmaskLength ?? DEFAULT_PREFIX_LENGTH) : ip.prefix.length;
  return checkHostAddress(makePrefix(ip.prefix.address, length), "--tun-ip: ");
}

/** Refuses a network's own address and prefixes without room for one client. `place` goes in front of the message. */
function checkHostAddress(prefix: Prefix, place: string): Prefix {
  const most = prefix.address.family === 4 ? 30 : 126;
  if (prefix.length > most) {
    throw new UsageError(
      `${place}Cannot use "${prefix.text}": no room for clients, expected a length of at most ${most}`,
    );
  }
  if (networkOf(prefix).address.text === prefix.address.text) {
    throw new UsageError(
      `${place}Cannot use "${prefix.text}": it is the network's own address, expected one inside it`,
    );
  }
  return prefix;
}
