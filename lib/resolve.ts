/** Turns the name of a server into literal addresses by the system's resolver. */

import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { type HostPort, parseAddress } from "./address.ts";
import { errorCode, messageOf } from "./caught.ts";
import { OmailError, UnknownHostError } from "./errors.ts";
import { canLookUpApart, lookupApart } from "./libc_resolve.ts";
import { longJob } from "./long_job.ts";

/** A lookup that takes longer is given up: without a network, resolvers can take minutes. */
const RESOLVE_TIMEOUT_MS = 5_000;

/**
 * Asks anew each time: a server may have moved.
 *
 * @returns the addresses of `server` with its port, in the order to be tried; a literal stands for itself
 * @throws {UnknownHostError} when the resolver says that there is no such name
 * @throws {OmailError} when it does not answer, or cannot; both name the host
 */
export async function resolveServer(server: HostPort): Promise<readonly HostPort[]> {
  if (isIP(server.host) !== 0) return [server];
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    timeout.reject(new OmailError(`the resolver did not answer within ${RESOLVE_TIMEOUT_MS} ms`));
  }, RESOLVE_TIMEOUT_MS);
  try {
    const found = await Promise.race([addressesOf(server.host), timeout.promise]);
    return found.map((host) => ({ host, port: server.port }));
  } catch (error) {
    throw resolveError(server.host, error);
  } finally {
    clearTimeout(timer);
  }
}

async function addressesOf(host: string): Promise<readonly string[]> {
  if (canLookUpApart) return (await lookupApart(host)).map((text) => parseAddress(text).text);
  return (await longJob(() => lookup(host, { all: true }))).map(({ address }) => address);
}

function resolveError(host: string, error: unknown): OmailError {
  if (errorCode(error) === "ENOTFOUND") {
    const expected = "expected the name or address of an omail-server";
    return new UnknownHostError(`Cannot resolve "${host}": there is no such name; ${expected}`);
  }
  const isTemporary = errorCode(error) === "EAI_AGAIN";
  const reason = isTemporary ? "the resolver cannot say now (EAI_AGAIN)" : messageOf(error);
  return new OmailError(`Cannot resolve "${host}": ${reason}`, { cause: error });
}
