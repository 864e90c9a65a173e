/** `omail-server user`: the users in the database of the state directory. */

import type { CommandDef } from "citty";
import { UsageError } from "../lib/errors.ts";
import { TOTP_SECRET_BYTES, totpUri } from "../lib/totp.ts";
import { DEFAULT_USER_SETTINGS, type StoredTotp, type UserRecord } from "../lib/user_record.ts";
import { checkFits } from "../lib/user_rules.ts";
import { recordChange } from "./audit_record.ts";
import { type Command, type CommandInput, command } from "./command.ts";
import { switchFlag } from "./flags.ts";
import { INSTANCE_FLAGS, JSON_FLAG } from "./tunnel_flags.ts";
import {
  findServer,
  finish,
  momentsOf,
  nameOf,
  readFirstPassword,
  readNewPassword,
  takePassword,
  verifierFor,
  withStore,
  withStoreIfThere,
} from "./user_context.ts";
import {
  applySettingFlags,
  NAME_ARGUMENT,
  PASSWORD_FLAGS,
  SETTING_FLAGS,
  settingFlagsIn,
} from "./user_flags.ts";
import { formatUser, formatUserList, userJson } from "./user_text.ts";

const COMMANDS: readonly Command[] = [
  {
    name: "add",
    description: "Add a user",
    args: {
      ...NAME_ARGUMENT,
      ...PASSWORD_FLAGS,
      totp: switchFlag(
        "Ask for a one-time code (TOTP) at each log-in, and print what an authenticator app needs",
      ),
      ...SETTING_FLAGS,
      ...INSTANCE_FLAGS,
    },
    run: addUser,
  },
  {
    name: "list",
    description: "List all users",
    args: { ...JSON_FLAG, ...INSTANCE_FLAGS },
    run: listUsers,
  },
  {
    name: "show",
    description: "Show a user",
    args: { ...NAME_ARGUMENT, ...JSON_FLAG, ...INSTANCE_FLAGS },
    run: showUser,
  },
  {
    name: "set",
    description: "Change settings of a user; the word none takes one away",
    args: { ...NAME_ARGUMENT, ...SETTING_FLAGS, ...INSTANCE_FLAGS },
    run: setUser,
  },
  {
    name: "passwd",
    description: "Change the password of a user and end the user's sessions",
    args: { ...NAME_ARGUMENT, ...PASSWORD_FLAGS, ...INSTANCE_FLAGS },
    run: changePassword,
  },
  {
    name: "totp",
    description: "Ask a user for a one-time code at each log-in, with a new secret",
    args: { ...NAME_ARGUMENT, off: switchFlag("Ask for the password only"), ...INSTANCE_FLAGS },
    run: changeTotp,
  },
  {
    name: "disable",
    description: "End a user's sessions and let it in no more",
    args: { ...NAME_ARGUMENT, ...INSTANCE_FLAGS },
    run: (input) =>
      change(input, { verb: "Disabled", action: "disable" }, (record) => ({ ...record, enabled: false })),
  },
  {
    name: "enable",
    description: "Let a disabled user in again",
    args: { ...NAME_ARGUMENT, ...INSTANCE_FLAGS },
    run: (input) =>
      change(input, { verb: "Enabled", action: "enable" }, (record) => ({ ...record, enabled: true })),
  },
  {
    name: "remove",
    description: "End a user's sessions and forget the user",
    args: { ...NAME_ARGUMENT, ...INSTANCE_FLAGS },
    run: removeUser,
  },
];

export const userCommand: CommandDef = {
  meta: { name: "user", description: "Users: who may log in, and what each may do" },
  subCommands: Object.fromEntries(COMMANDS.map((one) => [one.name, command(one)])),
};

async function addUser(input: CommandInput): Promise<void> {
  const { flags } = input;
  const name = nameOf(input);
  const settings = applySettingFlags(DEFAULT_USER_SETTINGS, flags, Date.now());
  const given = takePassword(process.env);
  const instance = await findServer(flags);
  const password = await readFirstPassword(name, flags, given, settings.auth);
  const verifier = await verifierFor(instance, name, password);
  const totp = flags["totp"] === true ? newTotp() : null;
  const record: UserRecord = { name, enabled: true, verifier, totp, ...settings };
  await withStore(instance, (store) => store.add(record, (others) => checkFits(record, others)));
  const fields = [...settingFlagsIn(flags), ...(totp === null ? [] : ["totp"])];
  await recordChange(instance, "user add", name, fields.join(", "));
  if (totp !== null) printTotp(totp, name);
  await finish(instance, `Added user "${name}"`);
}

async function listUsers({ flags }: CommandInput): Promise<void> {
  const users =
    (await withStoreIfThere(await findServer(flags), (store) => {
      const momentOf = momentsOf(store);
      return store.list().map((record) => ({ record, moment: momentOf(record.name) }));
    })) ?? [];
  const json = JSON.stringify(users.map(({ record, moment }) => userJson(record, moment)));
  process.stdout.write(flags["json"] === true ? `${json}\n` : formatUserList(users));
}

async function showUser(input: CommandInput): Promise<void> {
  const { flags } = input;
  const name = nameOf(input);
  await withStore(await findServer(flags), (store) => {
    const record = store.find(name);
    const moment = momentsOf(store)(name);
    const json = JSON.stringify(userJson(record, moment));
    process.stdout.write(flags["json"] === true ? `${json}\n` : formatUser(record, moment));
  });
}

async function setUser(input: CommandInput): Promise<void> {
  const { flags } = input;
  const given = settingFlagsIn(flags);
  if (given.length === 0) {
    const names = Object.keys(SETTING_FLAGS).map((flag) => `--${flag}`);
    throw new UsageError(`Cannot set nothing: expected at least one of ${names.join(", ")}`);
  }
  await change(input, { verb: "Changed", action: "set", fields: given }, (record) => ({
    ...record,
    ...applySettingFlags(record, flags, Date.now()),
  }));
}

async function changePassword(input: CommandInput): Promise<void> {
  const { flags } = input;
  const name = nameOf(input);
  const given = takePassword(process.env);
  const instance = await findServer(flags);
  // before a password is asked for
  await withStore(instance, (store) => store.find(name));
  const verifier = await verifierFor(instance, name, await readNewPassword(name, flags, given));
  await withStore(instance, (store) => store.update(name, (record) => ({ ...record, verifier })));
  await recordChange(instance, "user passwd", name);
  await finish(instance, `Changed the password of user "${name}"`);
}

async function changeTotp(input: CommandInput): Promise<void> {
  const totp = input.flags["off"] === true ? null : newTotp();
  const what = {
    verb: "Changed the second factor of",
    action: "totp",
    fields: [totp === null ? "off" : "on"],
  };
  await change(
    input,
    what,
    (record) => ({ ...record, totp }),
    (name) => {
      if (totp !== null) printTotp(totp, name);
    },
  );
}

async function removeUser(input: CommandInput): Promise<void> {
  const name = nameOf(input);
  const instance = await findServer(input.flags);
  await withStore(instance, (store) => store.remove(name));
  await recordChange(instance, "user remove", name);
  await finish(instance, `Removed user "${name}"`);
}

/** What a command did, for who gave it and for the audit log. */
interface Done {
  readonly verb: string;
  readonly action: string;
  /** Names of what was changed; never values. */
  readonly fields?: readonly string[];
}

async function change(
  input: CommandInput,
  { verb, action, fields = [] }: Done,
  changed: (record: UserRecord) => UserRecord,
  stored: (name: string) => void = () => undefined,
): Promise<void> {
  const name = nameOf(input);
  const instance = await findServer(input.flags);
  await withStore(instance, (store) =>
    store.update(name, (record, others) => {
      const next = changed(record);
      checkFits(next, others);
      return next;
    }),
  );
  await recordChange(instance, `user ${action}`, name, fields.join(", "));
  stored(name);
  await finish(instance, `${verb} user "${name}"`);
}

function newTotp(): StoredTotp {
  return { secret: crypto.getRandomValues(new Uint8Array(TOTP_SECRET_BYTES)), lastStep: -1 };
}

/** The one time that the secret is shown: to the administrator, who asked for it. */
function printTotp({ secret }: StoredTotp, name: string): void {
  process.stdout.write(`${totpUri(secret, name)}\n`);
}
