/** `omail-client up`: runs a client in the foreground until a signal or `down` ends it. */

import type { CommandDef } from "citty";
import {
  type ClientSettings,
  makeClientConfig,
  readClientSettings,
  requireServers,
} from "../lib/config_client.ts";
import { makeSecret } from "../lib/config_field.ts";
import { UsageError } from "../lib/errors.ts";
import { createProcessLog } from "../lib/log_consola.ts";
import type { Secret } from "../lib/secret.ts";
import { command } from "./command.ts";
import { type FlagValues, listFlag, switchFlag, valueFlag } from "./flags.ts";
import { argumentWarning, createPasswordReader } from "./password.ts";
import { promptPassword } from "./prompt.ts";
import { openSettings } from "./settings.ts";
import { createCodeReader } from "./totp.ts";
import { TUNNEL_FLAGS } from "./tunnel_flags.ts";

export const UP_FLAGS = {
  server: listFlag("HOST:PORT", "Server to connect to; several are tried in turn (default port 51820)"),
  user: valueFlag("NAME", "User to log in as (default: default)"),
  ...TUNNEL_FLAGS,
  "totp-file": valueFlag(
    "FILE",
    "File with the one-time code, if the user needs one (else OMAIL_TOTP, or you are asked)",
  ),
  ca: valueFlag("FILE", "Certificate authority in PEM that the server's certificate must come from"),
  "tun-ip": listFlag("IP", "Inner address to ask for; the server decides"),
  "split-tunnel": listFlag("CIDR", "Network that goes through the tunnel; without this flag everything does"),
  exclude: listFlag("CIDR", "Network that stays outside the tunnel"),
  "allow-lan": switchFlag(
    "Leave the networks that this machine is connected to reachable beside a full tunnel",
  ),
  "kill-switch": switchFlag(
    "Let nothing out but the tunnel, from the start until `down`, also while reconnecting and after a crash",
  ),
  dns: listFlag("IP", "DNS server to use through the tunnel, in place of those that the server pushes"),
  "no-dns": switchFlag("Leave this machine's DNS servers alone, and let queries out to them"),
  transport: valueFlag("NAME", "What carries the data: udp, tcp (the TLS stream), or auto (default auto)"),
} as const;

export const upCommand: CommandDef = command({
  name: "up",
  description: "Connect and stay connected (what happens without a command)",
  args: UP_FLAGS,
  run: ({ flags }) => up(flags),
});

async function up(flags: FlagValues): Promise<void> {
  const source = openSettings(flags, process.env);
  const settings = readClientSettings(await source.layers());
  // Before a password is asked for.
  requireServers(settings.values);
  const config = makeClientConfig(settings.values, await findPassword(settings.values));
  const code = createCodeReader(config, process.env);
  const log = createProcessLog(settings.values["log-level"], settings.values["log-format"]);
  for (const warning of [argumentWarning(settings, source.flags), source.warning()]) {
    if (warning !== null) log.warn(warning);
  }
  const { runClient } = await import("../lib/platform_client.ts");
  await runClient(config, { log, code });
}

async function findPassword(settings: ClientSettings): Promise<Secret> {
  const password = createPasswordReader(process.env).read(settings);
  if (password !== null) return password;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new UsageError(
      "Cannot log in without a password: give OMAIL_PASSWORD or --password-file FILE, or start it on a terminal to be asked",
    );
  }
  const question = `Password of ${settings.user}: `;
  return makeSecret(await promptPassword(question, process.stdin, (text) => process.stderr.write(text)));
}
