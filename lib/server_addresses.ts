/**
 * Addresses of servers by name, kept in `server_addresses.json` of the state directory.
 *
 * While a tunnel that holds everything back is down, no resolver can be asked: its packets would go into the tunnel, or
 * are held back. Then the addresses that a name had last time have to do.
 */

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import * as v from "valibot";
import { formatHostPort, type HostPort } from "./address.ts";
import { errorCode, messageOf } from "./caught.ts";
import { OmailError } from "./errors.ts";
import type { Log } from "./log.ts";

const FILE_NAME = "server_addresses.json";
const FILE_MODE = 0o600;
const MAX_ADDRESSES = 16;
/** Who has addresses of last time waits no longer for fresh ones: while a tunnel is down its resolver does not answer. */
const FRESH_WAIT_MS = 1_500;

const fileSchema = v.record(
  v.string(),
  v.pipe(
    v.array(
      v.pipe(
        v.string(),
        v.check((text) => isIP(text) !== 0),
      ),
    ),
    v.maxLength(MAX_ADDRESSES),
  ),
);

/** Turns a name into addresses: `resolveServer`, or a test's. */
export type ResolveServer = (server: HostPort) => Promise<readonly HostPort[]>;

/** A resolver that remembers. */
export class ServerAddresses {
  readonly #path: string;
  readonly #resolve: ResolveServer;
  readonly #log: Log;
  readonly #known: Map<string, readonly string[]>;

  constructor(stateDir: string, resolve: ResolveServer, log: Log) {
    this.#path = join(stateDir, FILE_NAME);
    this.#resolve = resolve;
    this.#log = log;
    this.#known = this.#read();
  }

  /**
   * @returns the addresses of `server` with its port: fresh ones, else those of last time
   * @throws {OmailError} the resolver's, when there were none last time
   */
  async resolve(server: HostPort): Promise<readonly HostPort[]> {
    if (isIP(server.host) !== 0) return [server];
    const known = this.#known.get(server.host) ?? [];
    const fresh = this.#resolve(server).then((found) => {
      this.#remember(server, found);
      return found;
    });
    try {
      return await (known.length === 0 ? fresh : within(FRESH_WAIT_MS, fresh));
    } catch (error) {
      if (known.length === 0) throw error;
      this.#log.debug(`${messageOf(error)}: using its addresses of last time`, {
        server: formatHostPort(server),
      });
      return known.map((host) => ({ host, port: server.port }));
    }
  }

  #remember({ host }: HostPort, found: readonly HostPort[]): void {
    const addresses = found.map((endpoint) => endpoint.host).slice(0, MAX_ADDRESSES);
    if (addresses.length === 0 || Bun.deepEquals(this.#known.get(host), addresses)) return;
    this.#known.set(host, addresses);
    const draft = `${this.#path}.${process.pid}.new`;
    try {
      const text = `${JSON.stringify(Object.fromEntries(this.#known), null, 2)}\n`;
      writeFileSync(draft, text, { mode: FILE_MODE });
      renameSync(draft, this.#path);
    } catch (error) {
      this.#log.warn("cannot remember the server's addresses", {
        path: this.#path,
        reason: messageOf(error),
      });
    }
  }

  #read(): Map<string, readonly string[]> {
    try {
      return new Map(Object.entries(v.parse(fileSchema, JSON.parse(readFileSync(this.#path, "utf8")))));
    } catch (error) {
      if (errorCode(error) !== "ENOENT")
        this.#log.warn("cannot read the servers' addresses", { path: this.#path, reason: messageOf(error) });
      return new Map();
    }
  }
}

/** Rejects when `work` takes longer; it goes on, and its end is nobody's concern then. */
async function within<Answer>(ms: number, work: Promise<Answer>): Promise<Answer> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new OmailError(`No answer of the resolver within ${ms} ms`)),
    ms,
  );
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
    work.catch(() => undefined);
  }
}
