/** Flags that several commands share; citty's subcommands inherit none, so that each spreads these into its own. */

import type { ArgsDef } from "citty";
import { DEFAULT_STATE_DIR, DEFAULT_TUN } from "../lib/config_server.ts";
import { switchFlag, valueFlag } from "./flags.ts";

/** Flags that tell which instance is meant. */
export const INSTANCE_FLAGS = {
  config: valueFlag("FILE", "TOML file with the same keys as the flags (OMAIL_CONFIG)"),
  tun: valueFlag("NAME", `Name of the tunnel's interface; tells instances apart (default ${DEFAULT_TUN})`),
  "state-dir": valueFlag("DIR", `Keys, journal and control socket (default ${DEFAULT_STATE_DIR})`),
} as const satisfies ArgsDef;

/** Flags about the log. */
export const LOG_FLAGS = {
  "log-level": valueFlag("LEVEL", "error, warn, info or debug (OMAIL_LOG; default info)"),
  "log-format": valueFlag("FORMAT", "text or json (default text)"),
} as const satisfies ArgsDef;

/** Flags of running either program. */
export const TUNNEL_FLAGS = {
  password: valueFlag(
    "TEXT",
    "Password; other users of this machine can see it, so rather use one of the next two",
  ),
  "password-file": valueFlag("FILE", "File with the password, - for standard input (else OMAIL_PASSWORD)"),
  ...INSTANCE_FLAGS,
  mtu: valueFlag("BYTES", "Largest packet inside the tunnel, or auto (default auto: 1420)"),
  engine: valueFlag(
    "NAME",
    "What seals records: web (Web Crypto) or sync (node:crypto: less delay and CPU) (default web)",
  ),
  keepalive: valueFlag("TIME", "Idle time before a keep-alive, 1s to 25s (default 10s)"),
  ...LOG_FLAGS,
} as const satisfies ArgsDef;

/** Output for programs. */
export const JSON_FLAG = { json: switchFlag("Print JSON") } as const satisfies ArgsDef;
