/** `omail-server policy show|test`: what the configuration lets users reach, without a server or any change. */

import type { CommandDef } from "citty";
import {
  type AccessPolicy,
  decide,
  formatPorts,
  formatRule,
  grantsFor,
  type PolicyGrant,
  type PolicyQuestion,
  withPushedRoutes,
} from "../lib/access_policy.ts";
import { parseAddress } from "../lib/address.ts";
import { readPorts } from "../lib/config_policy.ts";
import { makeServerConfig, readServerSettings, type ServerConfig } from "../lib/config_server.ts";
import { RefusedError, UsageError } from "../lib/errors.ts";
import { policyScript } from "../lib/firewall_policy.ts";
import { Secret } from "../lib/secret.ts";
import { accessPolicyOf } from "../lib/server_access.ts";
import { loadAddresses } from "../lib/server_identity.ts";
import { COMMAND_BUSY_TIMEOUT_MS, findUserStore, UserStore } from "../lib/user_store.ts";
import { command } from "./command.ts";
import { type FlagValues, switchFlag } from "./flags.ts";
import { RUN_FLAGS } from "./server_run.ts";
import { openSettings } from "./settings.ts";
import { INSTANCE_FLAGS, JSON_FLAG } from "./tunnel_flags.ts";

/** Settings that a policy depends on may be given as flags too, to try something out. */
const POLICY_FLAGS = {
  ...INSTANCE_FLAGS,
  "tun-ip": RUN_FLAGS["tun-ip"],
  "tun-ip6": RUN_FLAGS["tun-ip6"],
  "push-route": RUN_FLAGS["push-route"],
  "push-dns": RUN_FLAGS["push-dns"],
  "policy-default": RUN_FLAGS["policy-default"],
} as const;

const showCommand = command({
  name: "show",
  description: "Print the rules, and what each user of the configuration may reach",
  args: { nft: switchFlag("Print the nftables rules that enforce it"), ...JSON_FLAG, ...POLICY_FLAGS },
  run: ({ flags }) => show(flags),
});

const testCommand = command({
  name: "test",
  description: "Tell whether a user may reach an address and port: exit status 0, or 4 when not",
  args: {
    user: { type: "positional", description: "Name of a user", required: true },
    address: { type: "positional", description: "IP address", required: true },
    port: { type: "positional", description: "Port, or icmp", required: true },
    udp: switchFlag("By UDP instead of TCP"),
    ...POLICY_FLAGS,
  },
  run: ({ flags, positionals }) => test(flags, positionals),
});

export const policyCommand: CommandDef = {
  meta: { name: "policy", description: "Show and try out which user may reach which networks and ports" },
  subCommands: { show: showCommand, test: testCommand },
};

interface Member {
  readonly name: string;
  readonly groups: readonly string[];
  readonly routes: readonly string[];
}

interface Loaded {
  readonly config: ServerConfig;
  /** Of the configuration, and of the database of the state directory. */
  readonly users: readonly Member[];
  readonly policy: AccessPolicy;
  readonly grantsOf: (user: string) => readonly PolicyGrant[];
}

async function load(flags: FlagValues): Promise<Loaded> {
  const { nft: _nft, udp: _udp, ...settings } = flags;
  const { values } = readServerSettings(await openSettings(settings, process.env).layers());
  // the password plays no part here, and nobody shall be asked for it
  const config = makeServerConfig(values, values.users.length === 0 ? new Secret("unused") : null);
  const policy = accessPolicyOf(config, await innerAddresses(config));
  const listed = config.users.map(({ name, groups }) => ({
    name: name.normalize("NFKC"),
    groups,
    routes: [],
  }));
  const users = [...new Map([...listed, ...storedUsers(config)].map((user) => [user.name, user])).values()];
  const grantsOf = (name: string): readonly PolicyGrant[] => {
    const { groups = [], routes = [] } = users.find((user) => user.name === name) ?? {};
    return grantsFor(withPushedRoutes(policy, routes), name, groups);
  };
  return { config, policy, users, grantsOf };
}

/** The users of the database, for those who may read it; a later one of the same name counts. */
function storedUsers({ stateDir }: ServerConfig): readonly Member[] {
  if (findUserStore(stateDir) === null) return [];
  const store = new UserStore(stateDir, COMMAND_BUSY_TIMEOUT_MS);
  try {
    return store.list();
  } finally {
    store.close();
  }
}

/** A random IPv6 network is known to those who may read the state directory. */
async function innerAddresses(config: ServerConfig): Promise<readonly string[]> {
  try {
    return await loadAddresses(config);
  } catch {
    return [config.address4.text];
  }
}

async function show(flags: FlagValues): Promise<void> {
  const { config, policy, users: members, grantsOf } = await load(flags);
  const users = members.map(({ name, groups }) => ({ user: name, groups, grants: grantsOf(name) }));
  if (flags["nft"] === true) {
    process.stdout.write(nftOf(config, policy));
  } else if (flags["json"] === true) {
    const shown = users.map(({ grants, ...user }) => ({ ...user, reaches: grants.map(describeGrant) }));
    const { rules, otherwise } = policy;
    process.stdout.write(`${JSON.stringify({ rules, default: otherwise, users: shown })}\n`);
  } else {
    const rules = policy.rules.map((rule, index) => `rule ${index + 1}: ${formatRule(rule)}`);
    const lines = users.map(({ user, groups, grants }) => {
      const of = groups.length === 0 ? "" : ` (${groups.map((group) => `@${group}`).join(", ")})`;
      return `${user}${of}: ${grants.map(describeGrant).join("; ") || "nothing"}`;
    });
    const others = `others may reach: ${policy.otherwise}`;
    process.stdout.write(`${[...rules, others, ...lines].join("\n")}\n`);
  }
}

/** The table as it is before anybody has connected. */
function nftOf(config: ServerConfig, policy: AccessPolicy): string {
  const byMember = policy.rules.length > 0;
  const otherwise = grantsFor({ ...policy, rules: [] }, "", []);
  return policyScript({ tun: config.tun, byMember, tracked: config.nat || byMember, otherwise, members: [] });
}

async function test(flags: FlagValues, positionals: readonly string[]): Promise<void> {
  const [user = "", addressText = "", portText = ""] = positionals;
  const question = readQuestion(addressText, portText, flags["udp"] === true);
  const { users, policy, grantsOf } = await load(flags);
  const target = `${question.address.text} ${question.proto} ${question.port ?? ""}`.trimEnd();
  const known = users.some(({ name }) => name === user) ? "" : " (no such user)";
  const grant = decide(policy, grantsOf(user), question);
  if (grant === null) throw new RefusedError(`"${user}"${known} may not reach ${target}: no rule lets it`);
  process.stdout.write(`"${user}"${known} may reach ${target}: ${describeGrant(grant)}\n`);
}

function readQuestion(addressText: string, portText: string, udp: boolean): PolicyQuestion {
  const address = parseAddress(addressText);
  if (portText === "icmp") return { address, proto: "icmp", port: null };
  const { from, to } = readPorts(portText);
  if (from !== to)
    throw new UsageError(`Cannot use "${portText}" as a port: expected one, such as 443, or icmp`);
  return { address, proto: udp ? "udp" : "tcp", port: from };
}

function describeGrant({ network, clients, proto, ports, rule }: PolicyGrant): string {
  const what = [clients ? "clients in" : "", network.text, proto === "any" ? "" : proto, formatPorts(ports)];
  const why = rule === null ? "default" : `rule ${rule + 1}`;
  return `${what.filter(Boolean).join(" ")} [${why}]`;
}
