/** Turns the name of a server into literal addresses by the system's resolver. */

import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { HostPort } from "./address.ts";
import { messageOf } from "./caught.ts";
import { OmailError } from "./errors.ts";

/** A lookup that takes longer is given up: without a network, resolvers can take minutes. */
const RESOLVE_TIMEOUT_MS = 5_000;

/**
 * @returns the addresses of `server` with its port, in the order to be tried; a literal stands for itself
 * @throws {OmailError} when the name has none or the resolver does not answer; names the host
 */
export async function resolveServer(server: HostPort): Promise<readonly HostPort[]> {
  if (isIP(server.host) !== 0) return [server];
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    timeout.reject(new OmailError(`no answer within ${RESOLVE_TIMEOUT_MS} ms`));
  }, RESOLVE_TIMEOUT_MS);
  try {
    const found = await Promise.race([lookup(server.host, { all: true }), timeout.promise]);
    return found.map(({ address }) => ({ host: address, port: server.port }));
  } catch (error) {
    const reason = messageOf(error);
    throw new OmailError(`Cannot resolve "${server.host}": ${reason}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}
