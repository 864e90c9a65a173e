/** `omail-server run`: runs a server in the foreground until a signal ends it. */

import type { CommandDef } from "citty";
import {
  type ServerConfig,
  makeServerConfig,
  readServerSettings,
  requireUsers,
} from "../lib/config_server.ts";
import { createProcessLog } from "../lib/log_consola.ts";
import { countUsers } from "../lib/user_store.ts";
import { command } from "./command.ts";
import { type FlagValues, listFlag, switchFlag, valueFlag } from "./flags.ts";
import { argumentWarning, createPasswordReader } from "./password.ts";
import { openSettings } from "./settings.ts";
import { TUNNEL_FLAGS } from "./tunnel_flags.ts";

export const RUN_FLAGS = {
  ...TUNNEL_FLAGS,
  address: valueFlag("HOST:PORT", "Where to listen, TCP and UDP (default :51820)"),
  "tun-ip": valueFlag("IP/LEN", "Inner IPv4 address and network of the clients (default 10.8.0.1/24)"),
  "tun-netmask": valueFlag("MASK", "Netmask for a --tun-ip without a length, such as 255.255.255.0"),
  "tun-ip6": valueFlag(
    "IP/LEN",
    "Inner IPv6 address and network, auto or none (default auto: a random unique local /64)",
  ),
  nat: switchFlag("Let clients reach other networks through this machine (forwarding and masquerade)"),
  "push-route": listFlag("CIDR", "Network that clients shall reach through the tunnel"),
  "push-dns": listFlag("IP", "DNS server that clients shall use"),
  "push-domain": listFlag(
    "DOMAIN",
    "Domain that completes short names; a split tunnel asks --push-dns for its names only",
  ),
  "allow-from": listFlag("CIDR", "Outer network that may connect (default all)"),
  "deny-from": listFlag("CIDR", "Outer network that may not connect; wins over --allow-from"),
  "handshake-rate": valueFlag("N", "Log-ins that one outer address may start a second (default 20)"),
  "max-clients": valueFlag("N", "Most sessions at once (default 1000)"),
  "policy-default": valueFlag(
    "WHAT",
    "What users may reach whom no [[policy]] of the file names: pushed, all or none (default pushed)",
  ),
  "audit-full": valueFlag(
    "WHAT",
    "While the audit log cannot be written: refuse log-ins, or continue and raise an alarm (default continue)",
  ),
  "rekey-after": valueFlag("TIME", "Life of a data key, 50ms to 24h (default 2m)"),
  cert: valueFlag("FILE", "Certificate chain in PEM (default: self-signed, kept in the state directory)"),
  key: valueFlag("FILE", "Private key of --cert in PEM"),
} as const;

export const runServerCommand: CommandDef = command({
  name: "run",
  description: "Run the server (what happens without a command)",
  args: RUN_FLAGS,
  run: ({ flags }) => run(flags),
});

async function run(flags: FlagValues): Promise<void> {
  const source = openSettings(flags, process.env);
  const passwords = createPasswordReader(process.env);
  const read = async () => {
    const settings = readServerSettings(await source.layers());
    const config: ServerConfig = makeServerConfig(settings.values, passwords.read(settings.values));
    requireUsers(config, () => countUsers(config.stateDir));
    return { settings, config };
  };
  const { settings, config } = await read();
  const log = createProcessLog(settings.values["log-level"], settings.values["log-format"]);
  for (const warning of [argumentWarning(settings, source.flags), source.warning()]) {
    if (warning !== null) log.warn(warning);
  }
  const { runServer } = await import("../lib/platform_server.ts");
  await runServer(config, { log, readConfig: async () => (await read()).config });
}
