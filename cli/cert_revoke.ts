/** `omail-server cert revoke`: takes certificates back; live sessions that were opened with them end at once. */

import type { CommandDef } from "citty";
import { openAuthority } from "../lib/ca_authority.ts";
import { UsageError } from "../lib/errors.ts";
import { recordRevocations } from "./audit_record.ts";
import { printLine, serverInstance, tellServer } from "./cert_common.ts";
import { command } from "./command.ts";
import { INSTANCE_FLAGS } from "./tunnel_flags.ts";

export const certRevokeCommand: CommandDef = command({
  name: "revoke",
  description: "Revoke a certificate, or all of a name; their sessions end at once",
  args: {
    certificate: {
      type: "positional",
      description: "Its name, or its serial number or the beginning of it",
      required: true,
    },
    ...INSTANCE_FLAGS,
  },
  run: async ({ flags, positionals }) => {
    const instance = await serverInstance(flags);
    const authority = openAuthority(instance.stateDir);
    const found = await authority.find(positionals[0] ?? "", Date.now());
    const revoked = found.filter(({ state }) => state !== "revoked");
    if (revoked.length === 0)
      throw new UsageError(`Cannot revoke "${positionals[0]}": it was revoked before, expected another`);
    await authority.revoke(
      revoked.map(({ serial }) => serial),
      Date.now(),
    );
    await recordRevocations(instance, revoked);
    for (const { serial, name } of revoked) printLine(`Revoked certificate ${serial} of "${name}"`);
    printLine(await tellServer(instance));
  },
});
