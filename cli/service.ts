/** `service install|remove`: a hardened systemd unit that runs a program at every boot. */

import type { CommandDef } from "citty";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { errorCode } from "../lib/caught.ts";
import { expectCommand, runCommand } from "../lib/command.ts";
import { DEFAULT_STATE_DIR, DEFAULT_TUN } from "../lib/config_server.ts";
import { OmailError, PrivilegeError, UsageError } from "../lib/errors.ts";
import { UNIT_MARK, unitName, unitText } from "../lib/service_unit.ts";
import { command } from "./command.ts";
import { type FlagValues, switchFlag, valueFlag } from "./flags.ts";
import type { Role } from "./instance.ts";
import { INSTANCE_FLAGS } from "./tunnel_flags.ts";

const UNIT_DIRECTORY = "/etc/systemd/system";

const SERVICE_FLAGS = {
  ...INSTANCE_FLAGS,
  "unit-dir": valueFlag("DIR", `Where units are (default ${UNIT_DIRECTORY})`),
} as const;

/** Makes the command of one of the programs. */
export function serviceCommand(role: Role): CommandDef {
  const install = command({
    name: "install",
    description: "Write a hardened systemd unit for this program and the file of --config",
    args: { print: switchFlag("Print the unit instead of writing it"), ...SERVICE_FLAGS },
    run: ({ flags }) => installUnit(role, flags),
  });
  const remove = command({
    name: "remove",
    description: "Stop the unit and remove it",
    args: SERVICE_FLAGS,
    run: ({ flags }) => removeUnit(role, flags),
  });
  return {
    meta: { name: "service", description: "Run this program as a systemd service" },
    subCommands: { install, remove },
  };
}

function place(role: Role, flags: FlagValues) {
  const tun = textFlag(flags, "tun", DEFAULT_TUN);
  const directory = resolve(textFlag(flags, "unit-dir", UNIT_DIRECTORY));
  const name = unitName(role, tun, DEFAULT_TUN);
  return { tun, name, path: join(directory, name) };
}

function textFlag(flags: FlagValues, name: string, usual: string): string {
  const value = flags[name];
  return typeof value === "string" ? value : usual;
}

async function installUnit(role: Role, flags: FlagValues): Promise<void> {
  const { tun, name, path } = place(role, flags);
  const config = resolve(textFlag(flags, "config", `/etc/omail/${role}.toml`));
  const stateDir = resolve(textFlag(flags, "state-dir", DEFAULT_STATE_DIR));
  const text = unitText({ role, executable: process.execPath, config, tun, stateDir });
  if (flags["print"] === true) {
    process.stdout.write(text);
    return;
  }
  refuseForeign(path);
  change(path, () => writeFileSync(path, text, { mode: 0o644 }));
  await systemctl(["daemon-reload"]);
  const missing = existsSync(config) ? "" : `Write "${config}" first (mode 0600), then `;
  process.stdout.write(`Wrote "${path}". ${missing}start it: systemctl enable --now ${name}\n`);
}

async function removeUnit(role: Role, flags: FlagValues): Promise<void> {
  const { name, path } = place(role, flags);
  if (!existsSync(path)) {
    process.stdout.write(`There is no "${path}"\n`);
    return;
  }
  refuseForeign(path);
  await systemctl(["disable", "--now", name]);
  change(path, () => rmSync(path));
  await systemctl(["daemon-reload"]);
  process.stdout.write(`Stopped and removed "${path}"\n`);
}

/** A unit that somebody else wrote is not ours to touch. */
function refuseForeign(path: string): void {
  if (!existsSync(path) || readFileSync(path, "utf8").startsWith(UNIT_MARK)) return;
  throw new UsageError(
    `Cannot replace "${path}": it was not written by this command, expected it to be moved away`,
  );
}

function change(path: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    const code = errorCode(error);
    if (code === "EACCES" || code === "EPERM")
      throw new PrivilegeError(`Cannot write "${path}": permission denied, run as root`);
    throw new OmailError(`Cannot write "${path}": ${code}`);
  }
}

/** Where systemd does not run (a container, an image that is being built), the file alone is what can be done. */
async function systemctl(args: readonly string[]): Promise<void> {
  if (!existsSync("/run/systemd/system")) return;
  await expectCommand(runCommand, `Cannot run systemctl ${args.join(" ")}`, ["systemctl", ...args]);
}
