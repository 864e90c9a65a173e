/** The file `known_servers.json`: which certificate each server showed when it last proved itself. */

import { chmod, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorCode, messageOf } from "./caught.ts";
import type { Log } from "./log.ts";

/** Remembers certificate fingerprints by server name; a change is worth a warning, not a refusal. */
export interface KnownServers {
  /** @returns the fingerprint of the last proven connection, or null */
  find(server: string): string | null;
  remember(server: string, fingerprint: string): Promise<void>;
}

const FILE_NAME = "known_servers.json";
const FILE_MODE = 0o600;
/** As `X509Certificate.fingerprint256` writes it. */
const FINGERPRINT = /^[0-9A-F]{2}(:[0-9A-F]{2}){31}$/;

/**
 * Reads the file of `stateDir`. A file that is missing, damaged or cannot be written costs a warning at most: the
 * log-in proves the server in any case.
 */
export async function openKnownServers(stateDir: string, log: Log): Promise<KnownServers> {
  const path = join(stateDir, FILE_NAME);
  const known = await readKnown(path, log);
  return {
    find: (server) => known.get(server) ?? null,
    remember: async (server, fingerprint) => {
      if (known.get(server) === fingerprint) return;
      known.set(server, fingerprint);
      await writeKnown(path, known, log);
    },
  };
}

/** Remembers for the life of the process only. */
export function knownServersInMemory(): KnownServers {
  const known = new Map<string, string>();
  return {
    find: (server) => known.get(server) ?? null,
    remember: (server, fingerprint) => {
      known.set(server, fingerprint);
      return Promise.resolve();
    },
  };
}

async function readKnown(path: string, log: Log): Promise<Map<string, string>> {
  try {
    const parsed: unknown = JSON.parse(await readFile(path, "utf8"));
    if (typeof parsed !== "object" || parsed === null) throw new SyntaxError("expected an object");
    const entries = Object.entries(parsed).filter(
      (entry): entry is [string, string] => typeof entry[1] === "string" && FINGERPRINT.test(entry[1]),
    );
    return new Map(entries);
  } catch (error) {
    if (errorCode(error) !== "ENOENT")
      log.warn("cannot read the known servers", { path, reason: messageOf(error) });
    return new Map();
  }
}

/** Written beside and moved into place, so that no half file is left. */
async function writeKnown(path: string, known: ReadonlyMap<string, string>, log: Log): Promise<void> {
  const draft = `${path}.${process.pid}.new`;
  try {
    await writeFile(draft, `${JSON.stringify(Object.fromEntries(known), null, 2)}\n`, { mode: FILE_MODE });
    await chmod(draft, FILE_MODE);
    await rename(draft, path);
  } catch (error) {
    log.warn("cannot remember the server's certificate", { path, reason: messageOf(error) });
  }
}
