/** Settings of the client: which keys there are, their defaults and bounds, and how they fit together. */

import * as v from "valibot";
import { type HostPort, type Prefix, parseHostPort, parsePrefix } from "./address.ts";
import { resolveSettings, type ResolvedSettings, type SettingsLayer } from "./config.ts";
import {
  addressesField,
  booleanField,
  choiceField,
  listField,
  networksField,
  textField,
} from "./config_field.ts";
import { DEFAULT_USER, TUNNEL_ENTRIES } from "./config_server.ts";
import type { EngineName, TransportChoice } from "./data_plane_message.ts";
import { UsageError } from "./errors.ts";
import { DEFAULT_MTU_BYTES, DEFAULT_PORT } from "./limits.ts";
import type { Secret } from "./secret.ts";

/** What a client is started with. */
export interface ClientConfig {
  /** Servers to try, in this order. */
  readonly servers: readonly HostPort[];
  readonly user: string;
  readonly password: Secret;
  /** File with the one-time code of a user with a second factor, read at each log-in; null when there is none. */
  readonly totpFile: string | null;
  /** PEM file with the certificate authority that the server's certificate must come from. */
  readonly caFile: string | null;
  readonly tun: string;
  /** Inner addresses to ask for, at most one of each family; the server decides. */
  readonly requestedAddresses: readonly string[];
  readonly mtuBytes: number;
  /** Networks that go through the tunnel; null is all. */
  readonly splitTunnel: readonly string[] | null;
  readonly excludes: readonly string[];
  /** With a full tunnel, the networks that this machine is connected to stay outside. */
  readonly allowLan: boolean;
  /** Nothing leaves but the tunnel and what brings it about. */
  readonly killSwitch: boolean;
  /** DNS servers in place of those that the server pushes; null is those. */
  readonly dns: readonly string[] | null;
  /** Use the DNS servers that the server pushes. */
  readonly useDns: boolean;
  readonly stateDir: string;
  readonly engine: EngineName;
  readonly keepaliveMs: number;
  /** What carries the data; `auto` takes UDP while it works. */
  readonly transport: TransportChoice;
}

const requestedField = listField((text): Prefix => parsePrefix(text));

const clientSchema = v.strictObject({
  ...TUNNEL_ENTRIES,
  server: v.optional(listField(readServer)),
  user: v.optional(textField, DEFAULT_USER),
  "totp-file": v.optional(textField),
  ca: v.optional(textField),
  "tun-ip": v.optional(requestedField, []),
  "split-tunnel": v.optional(networksField),
  exclude: v.optional(networksField, []),
  "allow-lan": v.optional(booleanField, false),
  "kill-switch": v.optional(booleanField, false),
  dns: v.optional(addressesField),
  "no-dns": v.optional(booleanField, false),
  transport: v.optional(choiceField(["auto", "udp", "tcp"]), "auto"),
});

/** Checked settings of the client by key, as {@link readClientSettings} gives them. */
export type ClientSettings = v.InferOutput<typeof clientSchema>;

/** Every key that a client's file may have; all are flags too. */
export const CLIENT_KEYS: readonly string[] = Object.keys(clientSchema.entries);

/**
 * Merges and checks layers, the first of which wins.
 *
 * @throws {UsageError} naming the first wrong key or value
 */
export function readClientSettings(layers: readonly SettingsLayer[]): ResolvedSettings<ClientSettings> {
  return resolveSettings(clientSchema, layers);
}

/**
 * Fits the settings together.
 *
 * @throws {UsageError} when no server is named or two settings contradict each other
 */
export function makeClientConfig(settings: ClientSettings, password: Secret): ClientConfig {
  refuseTwoWishes(settings);
  return {
    servers: requireServers(settings),
    user: settings.user,
    password,
    totpFile: settings["totp-file"] ?? null,
    caFile: settings.ca ?? null,
    tun: settings.tun,
    requestedAddresses: onePerFamily(settings["tun-ip"]),
    mtuBytes: settings.mtu === "auto" ? DEFAULT_MTU_BYTES : settings.mtu,
    splitTunnel: settings["split-tunnel"] ?? null,
    excludes: settings.exclude,
    allowLan: settings["allow-lan"],
    killSwitch: settings["kill-switch"],
    dns: settings.dns ?? null,
    useDns: !settings["no-dns"],
    stateDir: settings["state-dir"],
    engine: settings.engine,
    keepaliveMs: settings.keepalive,
    transport: settings.transport,
  };
}

/**
 * The servers of the settings.
 *
 * @throws {UsageError} when there is none
 */
export function requireServers(settings: ClientSettings): readonly HostPort[] {
  const servers = settings.server ?? [];
  if (servers.length === 0) {
    throw new UsageError(
      "Cannot connect without a server: give --server HOST:PORT, or server in the file of --config",
    );
  }
  return servers;
}

function refuseTwoWishes(settings: ClientSettings): void {
  if (settings["no-dns"] && settings.dns !== undefined) {
    throw new UsageError("Cannot use --dns and --no-dns together: expected one of them");
  }
}

function readServer(text: string): HostPort {
  const server = parseHostPort(text, DEFAULT_PORT);
  if (server.host === "") throw new UsageError(`Cannot connect to "${text}": expected HOST:PORT with a host`);
  return server;
}

function onePerFamily(prefixes: readonly Prefix[]): readonly string[] {
  for (const family of [4, 6]) {
    const texts = prefixes
      .filter((prefix) => prefix.address.family === family)
      .map((prefix) => prefix.address.text);
    if (texts.length > 1) {
      throw new UsageError(
        `--tun-ip: Cannot ask for "${texts.join('" and "')}": expected one IPv${family} address`,
      );
    }
  }
  return prefixes.map((prefix) => prefix.address.text);
}
