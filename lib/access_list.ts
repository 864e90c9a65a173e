/** Lists of outer networks that may, or may not, connect. Pure. */

import { isIP } from "node:net";
import { type Prefix, parseAddress, parseNetwork, prefixContains } from "./address.ts";

/** Networks as read from CIDR texts. */
export interface AccessList {
  /** Empty means all. */
  readonly allow: readonly Prefix[];
  /** Wins over `allow`. */
  readonly deny: readonly Prefix[];
}

/** @throws {UsageError} for a text that is no network */
export function makeAccessList(allow: readonly string[], deny: readonly string[]): AccessList {
  return { allow: allow.map(parseNetwork), deny: deny.map(parseNetwork) };
}

/** Whether an address is let in. A text that is no address (its connection is gone already) is, by an empty list only. */
export function isAllowed({ allow, deny }: AccessList, address: string): boolean {
  if (allow.length === 0 && deny.length === 0) return true;
  if (isIP(address) === 0) return false;
  const parsed = parseAddress(address);
  const covers = (network: Prefix): boolean => prefixContains(network, parsed);
  return !deny.some(covers) && (allow.length === 0 || allow.some(covers));
}
