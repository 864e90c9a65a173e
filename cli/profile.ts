/** `omail-server profile`: a one-file profile for a client, or a one-time token by which it makes its own. */

import type { CommandDef } from "citty";
import { join } from "node:path";
import { type HostPort, formatHostPort, parseHostPort } from "../lib/address.ts";
import { type AuthMode } from "../lib/auth_mode.ts";
import { type CertificateAuthority, openAuthority } from "../lib/ca_authority.ts";
import { hasAuthority } from "../lib/ca_store.ts";
import { certificateFingerprint } from "../lib/certificate.ts";
import { nameProblem } from "../lib/certificate_name.ts";
import { parseDuration } from "../lib/config_field.ts";
import { readClientSettings } from "../lib/config_client.ts";
import { certificateFiles, type ServerSettings } from "../lib/config_server.ts";
import { ENROL_TOKEN_BYTES, formatEnrolUri } from "../lib/enrol_uri.ts";
import { writeEnrolToken } from "../lib/enrol_store.ts";
import { UsageError } from "../lib/errors.ts";
import { openInstance } from "../lib/instance.ts";
import { DEFAULT_PORT } from "../lib/limits.ts";
import { readPem, writePem } from "../lib/pem.ts";
import { writePrivateFile } from "../lib/private_file.ts";
import { encodeProfile, encodeProfileLine, type Profile } from "../lib/profile.ts";
import { loadCertificate } from "../lib/server_identity.ts";
import { COMMAND_BUSY_TIMEOUT_MS, findUserStore, UserStore } from "../lib/user_store.ts";
import { loadX509, readCertificate } from "../lib/x509.ts";
import { recordChange } from "./audit_record.ts";
import { daysFlag, DEFAULT_DAYS, printLine, readDays, readList, serverSettings } from "./cert_common.ts";
import { command, type CommandInput } from "./command.ts";
import { type FlagValues, listFlag, switchFlag, valueFlag } from "./flags.ts";
import { INSTANCE_FLAGS } from "./tunnel_flags.ts";

/** Longest life of a one-time token: whoever finds it later must not be able to use it. */
const MAX_TOKEN_MS = 30 * 86_400_000;

export const profileCommand: CommandDef = command({
  name: "profile",
  description: "Make everything a client needs: one file, or a one-time token as a QR code",
  args: {
    name: { type: "positional", description: "User that the profile is for", required: true },
    server: listFlag("HOST:PORT", "Where clients reach this server (default: the hosts of its certificate)"),
    auth: valueFlag(
      "WHAT",
      "What the client logs in with: cert, both or password (default: what the server asks)",
    ),
    "split-tunnel": listFlag(
      "CIDR",
      "Network that goes through the tunnel; without this flag everything does",
    ),
    exclude: listFlag("CIDR", "Network that stays outside the tunnel"),
    "allow-lan": switchFlag("Leave the networks that the client is connected to reachable"),
    "kill-switch": switchFlag("Let nothing out of the client but the tunnel"),
    dns: listFlag("IP", "DNS server for the client, in place of those that the server pushes"),
    "no-dns": switchFlag("Leave the client's DNS servers alone"),
    transport: valueFlag("auto|udp|tcp", "How the client sends its data (default: auto)"),
    days: daysFlag(DEFAULT_DAYS),
    out: valueFlag("FILE", "Where to write the profile (default: NAME.omail.json)"),
    qr: switchFlag("Print a one-time token as a QR code instead; the client makes its own key"),
    token: switchFlag("Print a one-time token as text instead"),
    expires: valueFlag("TIME", "How long the token is good, up to 720h (default 24h)"),
    ...INSTANCE_FLAGS,
  },
  run: (input) => makeProfile(input),
});

async function makeProfile({ flags, positionals }: CommandInput): Promise<void> {
  const name = positionals[0] ?? "";
  const problem = nameProblem(name);
  if (problem !== null) throw new UsageError(`Cannot make a profile: ${problem}`);
  const settings = await serverSettings(flags);
  const instance = openInstance("server", settings.tun, settings["state-dir"]);
  const { stateDir } = instance;
  const auth = readAuth(name, flags, settings, stateDir);
  const identity = await serverIdentity(settings, stateDir);
  const profile: Profile = {
    name,
    server: readServers(flags, identity.hosts, settings.address.port).map(formatHostPort),
    user: name,
    auth,
    ...(identity.caPem === null ? { pin: [identity.pin] } : { ca: identity.caPem }),
    ...options(flags),
  };
  checkOptions(profile);
  const validDays = readDays(flags, DEFAULT_DAYS);
  if (flags["qr"] === true || flags["token"] === true) {
    if (auth === "password")
      throw new UsageError("Cannot make a token for a log-in by password: expected --auth cert or both");
    // the token is worth nothing where nothing can be issued
    openAuthority(stateDir);
    await printToken(profile, identity.pin, validDays, stateDir, flags);
    return await recordChange(instance, "profile", name, "one-time token");
  }
  const serial = await writeProfile(
    profile,
    validDays,
    auth === "password" ? null : openAuthority(stateDir),
    flags,
  );
  await recordChange(instance, "profile", name, serial === null ? "no certificate" : `serial ${serial}`);
}

/** @returns the serial number of the certificate in it; null when it has none */
async function writeProfile(
  profile: Profile,
  validDays: number,
  authority: CertificateAuthority | null,
  flags: FlagValues,
): Promise<string | null> {
  const path = typeof flags["out"] === "string" ? flags["out"] : join(".", `${profile.name}.omail.json`);
  // what cannot be written must not leave a certificate behind
  writePrivateFile(path, "", { replace: false });
  const issue = { name: profile.user, use: "client", hosts: [], validDays } as const;
  const issued = authority === null ? null : await authority.issue(issue, Date.now());
  const credentials = issued === null ? {} : { cert: issued.certPem, key: issued.keyPem ?? "" };
  writePrivateFile(path, encodeProfile({ ...profile, ...credentials }), { replace: true });
  printLine(
    `Wrote "${path}"; ${issued === null ? "it holds no secret" : "it holds a key, so keep it secret"}`,
  );
  printLine(`Connect with: omail-client --profile ${path}`);
  return issued?.serial ?? null;
}

async function printToken(
  profile: Profile,
  pin: string,
  validDays: number,
  stateDir: string,
  flags: FlagValues,
): Promise<void> {
  const token = crypto.getRandomValues(new Uint8Array(ENROL_TOKEN_BYTES));
  const server = parseHostPort(profile.server[0] ?? "", DEFAULT_PORT);
  const uri = formatEnrolUri({ server, token, pin });
  const lifeMs = readExpiry(flags["expires"]);
  const nowMs = Date.now();
  const record = {
    user: profile.user,
    expiresMs: nowMs + lifeMs,
    validDays,
    profile: encodeProfileLine(profile),
  };
  writeEnrolToken(stateDir, token, record, nowMs);
  if (flags["qr"] === true) {
    const { renderUnicodeCompact } = await import("uqr");
    printLine(renderUnicodeCompact(uri, { ecc: "M", border: 2 }));
  }
  printLine(uri);
  process.stderr.write(
    `Good once, until ${new Date(nowMs + lifeMs).toISOString()}. On the client: omail-client import - (asks for it)\n`,
  );
}

function readExpiry(text: unknown): number {
  const lifeMs = parseDuration(typeof text === "string" ? text : "24h");
  if (lifeMs > 0 && lifeMs <= MAX_TOKEN_MS) return lifeMs;
  throw new UsageError(
    `--expires: Cannot use "${String(text)}": expected more than nothing and at most 720h`,
  );
}

/** How a client recognises this server. */
interface RecognisedBy {
  /** Of the authority where it has issued the server's certificate, else of that certificate. */
  readonly pin: string;
  /** The authority; null where its certificate is not what the server shows. */
  readonly caPem: string | null;
  readonly hosts: readonly string[];
}

async function serverIdentity(settings: ServerSettings, stateDir: string): Promise<RecognisedBy> {
  const { address: listen, cert, key } = settings;
  const files = { listen, stateDir, certificateFiles: certificateFiles(cert, key) };
  const { certPem } = await loadCertificate(files, Date.now());
  const blocks = readPem(certPem, "the server's certificate");
  const { dnsNames, ipAddresses } = readCertificate(
    await loadX509(),
    blocks[0]!.der,
    "the server's certificate",
  );
  const caPem = hasAuthority(stateDir) ? openAuthority(stateDir).certPem : null;
  const shown = blocks.map((block) => certificateFingerprint(writePem(block)));
  const pin = caPem === null ? null : certificateFingerprint(caPem);
  if (pin === null || !shown.includes(pin)) return { pin: shown[0]!, caPem: null, hosts: [] };
  return { pin, caPem, hosts: [...dnsNames, ...ipAddresses].filter((host) => !host.includes("*")) };
}

function readServers(flags: FlagValues, hosts: readonly string[], port: number): readonly HostPort[] {
  const given = readList(flags, "server").map((text) => parseHostPort(text, DEFAULT_PORT));
  if (given.some(({ host }) => host === ""))
    throw new UsageError("--server: Cannot use a server without a host: expected HOST:PORT");
  const servers = given.length > 0 ? given : hosts.map((host) => ({ host, port }));
  if (servers.length > 0) return servers;
  throw new UsageError("Cannot tell where clients reach this server: expected --server HOST:PORT");
}

function readAuth(
  user: string,
  flags: FlagValues,
  settings: ServerSettings,
  stateDir: string,
): Profile["auth"] {
  const listed = settings.users.find(({ name }) => name === user)?.auth;
  const own = storedAuth(stateDir, user) ?? listed;
  const byServer: AuthMode = own ?? settings.auth ?? (hasAuthority(stateDir) ? "any" : "password");
  const auth = flags["auth"] ?? (byServer === "any" ? "cert" : byServer);
  if (auth === "cert" || auth === "both" || auth === "password") return auth;
  throw new UsageError(`--auth: Cannot use "${String(auth)}": expected cert, both or password`);
}

/** What the database says that a user must prove; null where it says nothing. */
function storedAuth(stateDir: string, user: string): AuthMode | null {
  if (findUserStore(stateDir) === null) return null;
  const store = new UserStore(stateDir, COMMAND_BUSY_TIMEOUT_MS);
  try {
    return store.list().find(({ name }) => name === user)?.auth ?? null;
  } finally {
    store.close();
  }
}

/** What the client would refuse is refused here. @throws {UsageError} naming the flag */
function checkOptions({ name: _name, ...values }: Profile): void {
  readClientSettings([{ values, describe: ([key]) => `--${key}` }]);
}

function options(flags: FlagValues): Partial<Profile> {
  const lists = (["split-tunnel", "exclude", "dns"] as const).flatMap((name) => {
    const texts = readList(flags, name);
    return texts.length === 0 ? [] : [[name, texts] as const];
  });
  const switches = ["allow-lan", "kill-switch", "no-dns"].filter((name) => flags[name] === true);
  return {
    ...Object.fromEntries(lists),
    // judged with the other values
    ...(typeof flags["transport"] === "string"
      ? { transport: flags["transport"] as Profile["transport"] }
      : {}),
    ...Object.fromEntries(switches.map((name) => [name, true])),
  };
}
