/**
 * The files of the built-in certificate authority in the state directory:
 *
 *   ca/ca.pem  ca/ca.key      its certificate and key
 *   ca/crl.pem                which certificates it has revoked
 *   ca/issued/SERIAL.pem      every certificate that it has issued
 *   server.pem                the server's certificate with key, issued by it or self-signed
 *
 * The directory has mode 0700, its files 0600.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { errorCode } from "./caught.ts";
import { UsageError } from "./errors.ts";
import { withFileLock } from "./file_lock.ts";
import { fileError, readPrivateFile, writePrivateFile } from "./private_file.ts";

/** Certificate and key of the authority as PEM texts. */
export interface CaPair {
  readonly certPem: string;
  readonly keyPem: string;
}

const DIRECTORY_MODE = 0o700;
const ISSUED_NAME = /^[0-9a-f]{1,40}\.pem$/;

/** Paths of the files, for messages and for who watches them. */
export interface CaPaths {
  readonly directory: string;
  readonly cert: string;
  readonly key: string;
  readonly crl: string;
  readonly issued: string;
}

export function caPaths(stateDir: string): CaPaths {
  const directory = join(stateDir, "ca");
  return {
    directory,
    cert: join(directory, "ca.pem"),
    key: join(directory, "ca.key"),
    crl: join(directory, "crl.pem"),
    issued: join(directory, "issued"),
  };
}

/** Whether the state directory holds an authority. */
export function hasAuthority(stateDir: string): boolean {
  return existsSync(caPaths(stateDir).cert);
}

/**
 * The authority with its key.
 *
 * @throws {UsageError} when there is none, or its key can be read by others
 */
export function readAuthorityFiles(stateDir: string): CaPair {
  const paths = caPaths(stateDir);
  if (!hasAuthority(stateDir)) {
    throw new UsageError(
      `There is no certificate authority in "${stateDir}": make one with omail-server cert init`,
    );
  }
  return { certPem: readText(paths.cert), keyPem: readPrivateFile(paths.key, "certificate authority") };
}

/**
 * Writes a new authority with its first revocation list.
 *
 * @throws {UsageError} when there is one already
 */
export function writeAuthorityFiles(stateDir: string, pair: CaPair, crlPem: string): void {
  const paths = caPaths(stateDir);
  makeDirectories(paths);
  // the key first and the certificate last: what is not whole is no authority
  writePrivateFile(paths.key, pair.keyPem, { replace: !hasAuthority(stateDir) });
  writePrivateFile(paths.crl, crlPem, { replace: true });
  writePrivateFile(paths.cert, pair.certPem, { replace: false });
}

export function readCrl(stateDir: string): string {
  return readText(caPaths(stateDir).crl);
}

export function writeCrl(stateDir: string, crlPem: string): void {
  writePrivateFile(caPaths(stateDir).crl, crlPem, { replace: true });
}

/** Keeps an issued certificate, so that it can be listed, renewed and revoked. */
export function writeIssued(stateDir: string, serial: string, certPem: string): void {
  writePrivateFile(join(caPaths(stateDir).issued, `${serial}.pem`), certPem, { replace: false });
}

/** PEM texts of all issued certificates, with the path of each. */
export function readIssued(stateDir: string): readonly { readonly path: string; readonly certPem: string }[] {
  const { issued } = caPaths(stateDir);
  const names = readDirectory(issued).filter((name) => ISSUED_NAME.test(name));
  return names.map((name) => ({ path: join(issued, name), certPem: readText(join(issued, name)) }));
}

/** Replaces the server's certificate and key. */
export function writeServerPair(stateDir: string, { certPem, keyPem }: CaPair): string {
  const path = join(stateDir, "server.pem");
  writePrivateFile(path, certPem + keyPem, { replace: true });
  return path;
}

/** Runs `change` while no other process changes the authority. */
export function withAuthorityLock<T>(stateDir: string, change: () => Promise<T>): Promise<T> {
  makeDirectories(caPaths(stateDir));
  return withFileLock(join(caPaths(stateDir).directory, "lock"), change);
}

/** A text that changes whenever one of the files does; missing files count too. */
export function fileStamp(paths: readonly string[]): string {
  return paths.map(stampOf).join(" ");
}

function stampOf(path: string): string {
  try {
    const { ino, mtimeMs, size } = statSync(path);
    return `${ino}/${mtimeMs}/${size}`;
  } catch {
    return "none"; // it is missing, or cannot be read: who reads it says why
  }
}

function makeDirectories(paths: CaPaths): void {
  try {
    mkdirSync(paths.issued, { recursive: true, mode: DIRECTORY_MODE });
  } catch (error) {
    throw fileError("make", paths.issued, error);
  }
}

function readDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw fileError("read", path, error);
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw fileError("read", path, error);
  }
}
