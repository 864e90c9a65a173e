/** The `[[policy]]` entries of a server's file, as checked rules. */

import * as v from "valibot";
import { NETWORK_WORDS, type PolicyRule, type PortRange, PROTOCOLS } from "./access_policy.ts";
import { parseNetwork } from "./address.ts";
import { choiceField, field, listField, textOf } from "./config_field.ts";
import { UsageError } from "./errors.ts";

const WHO = /^(\*|@?[^\s@*,][^,]*)$/;

function readWho(text: string): string {
  if (WHO.test(text)) return text;
  throw new UsageError(`Cannot use "${text}": expected the name of a user, @GROUP, or * for everybody`);
}

function readTarget(text: string): string {
  if (NETWORK_WORDS.some((word) => word === text)) return text;
  try {
    return parseNetwork(text).text;
  } catch (error) {
    if (/[.:/]/.test(text)) throw error;
    throw new UsageError(`Cannot use "${text}": expected a network such as 192.168.5.0/24, or ${words()}`);
  }
}

function words(): string {
  return NETWORK_WORDS.join(", ").replace(/, ([a-z]+)$/, " or $1");
}

/** Reads `443` or `8000-8100`. @throws {UsageError} when it is neither, or outside of 1 to 65,535 */
export function readPorts(text: string): PortRange {
  const match = /^([0-9]{1,5})(?:-([0-9]{1,5}))?$/.exec(text);
  const from = Number(match?.[1] ?? 0);
  const to = match?.[2] === undefined ? from : Number(match[2]);
  if (from >= 1 && from <= to && to <= 65_535) return { from, to };
  throw new UsageError(
    `Cannot use "${text}" as ports: expected one such as 443, or a range such as 8000-8100`,
  );
}

const portsField = field((value): readonly PortRange[] => {
  const texts = (Array.isArray(value) ? value : [value]).map(textOf);
  return texts.flatMap((text) => text.split(",")).map((text) => readPorts(text.trim()));
});

/** One entry. */
export const policyRuleSchema = v.pipe(
  v.strictObject({
    who: v.optional(listField(readWho), ["*"]),
    networks: listField(readTarget),
    proto: v.optional(choiceField(PROTOCOLS), "any"),
    ports: v.optional(portsField, []),
  }),
  v.check(
    ({ proto, ports }) => ports.length === 0 || proto === "tcp" || proto === "udp",
    'Cannot use "ports" here: expected proto = "tcp" or "udp" with them',
  ),
  v.transform((rule): PolicyRule => rule),
);
