/**
 * The users of a server: those of its configuration and those of its database. Those who do not exist look like those
 * who do.
 *
 * A name that stands in both is the database's: what an administrator decides there (disabled, expired) always counts.
 */

import { type AccessList, isAllowed, makeAccessList } from "./access_list.ts";
import type { AuthMode } from "./auth_mode.ts";
import { UsageError } from "./errors.ts";
import { fakeVerifier, makeVerifier, prepareText, saltForUser, type Verifier } from "./password.ts";
import { DEFAULT_USER_SETTINGS, type UserRecord } from "./user_record.ts";

/** A user as the configuration names it. */
export interface UserPassword {
  readonly name: string;
  /** Null for one who logs in by certificate, who is no user of {@link ServerUsers} but for lists and groups. */
  readonly password: string | null;
  /** Outer networks (CIDR) that this user may, or may not, come from; see `access_list.ts`. */
  readonly allowFrom?: readonly string[];
  readonly denyFrom?: readonly string[];
  /** Labels for the access policy. */
  readonly groups?: readonly string[];
}

/** Fewest bytes of the secret that fake verifiers are made from. */
const MIN_SECRET_BYTES = 32;

/** Who may log in. Passwords are not kept. */
export class ServerUsers {
  readonly #secret: Uint8Array<ArrayBuffer>;
  #access: ReadonlyMap<string, AccessList> = new Map();
  /** Of the configuration, also of users without a password. */
  #groups: ReadonlyMap<string, readonly string[]> = new Map();
  #configured: ReadonlyMap<string, UserRecord> = new Map();
  #stored: ReadonlyMap<string, UserRecord> = new Map();
  #modes: ReadonlyMap<string, AuthMode> = new Map();

  /**
   * @param secret at least 32 random bytes that stay the same over restarts
   * @throws {UsageError} when it is shorter
   */
  constructor(secret: Uint8Array) {
    if (secret.length < MIN_SECRET_BYTES) {
      throw new UsageError(
        `Cannot use a server secret of "${secret.length}" bytes: expected ${MIN_SECRET_BYTES}`,
      );
    }
    this.#secret = Uint8Array.from(secret);
  }

  /**
   * Makes these the users of the configuration. Each costs one PBKDF2, about 65 ms, off the main thread.
   *
   * @throws {UsageError} when a name or password cannot be used, or a name comes twice; nothing has changed then
   */
  async replace(users: readonly UserPassword[]): Promise<void> {
    const names = users.map(({ name }) => prepareText(name, "user name"));
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined)
      throw new UsageError(`Cannot use user "${twice}" twice: expected one entry for each name`);
    const access = users.map(({ allowFrom = [], denyFrom = [] }) => makeAccessList(allowFrom, denyFrom));
    const records = await Promise.all(users.map((user, i) => this.#recordFor(names[i]!, user)));
    const known = records.filter((record) => record !== null);
    this.#configured = new Map(known.map((record) => [record.name, record]));
    this.#access = new Map(names.map((name, i) => [name, access[i]!]));
    this.#groups = new Map(users.map(({ groups = [] }, i) => [names[i]!, groups]));
  }

  /** Makes these the users of the database. */
  setStored(records: readonly UserRecord[]): void {
    this.#stored = new Map(records.map((record) => [record.name, record]));
    this.#modes = new Map(
      records.flatMap(({ name, auth }) => (auth === null ? [] : [[name, auth] as const])),
    );
  }

  /** What users of the database have to prove, where that is not what the server wants of everybody. */
  get modes(): ReadonlyMap<string, AuthMode> {
    return this.#modes;
  }

  /** Names that stand in the configuration and in the database. */
  get doubled(): readonly string[] {
    return [...this.#configured.keys()].filter((name) => this.#stored.has(name));
  }

  has(user: string): boolean {
    return this.find(user) !== undefined;
  }

  /** Undefined when there is no such user. */
  find(user: string): UserRecord | undefined {
    return this.#stored.get(user) ?? this.#configured.get(user);
  }

  /** Whether the user is one of the database. */
  isStored(user: string): boolean {
    return this.#stored.has(user);
  }

  /** All users. */
  all(): readonly UserRecord[] {
    return [...new Map([...this.#configured, ...this.#stored]).values()];
  }

  /** Labels of a user for the access policy. */
  groupsOf(user: string): readonly string[] {
    return this.find(user)?.groups ?? this.#groups.get(user) ?? [];
  }

  /** Whether this user may come from an outer address. */
  mayComeFrom(user: string, address: string): boolean {
    const list = this.#access.get(user);
    return list === undefined || isAllowed(list, address);
  }

  /** The verifier of a user, or a stable fake one. The fake is made for everybody, so that both take the same time. */
  async verifierOf(user: string): Promise<Verifier> {
    const fake = await fakeVerifier(this.#secret, user);
    return this.find(user)?.verifier ?? fake;
  }

  async #recordFor(name: string, { password, groups = [] }: UserPassword): Promise<UserRecord | null> {
    if (password === null) return null;
    const verifier = await makeVerifier(password, await saltForUser(this.#secret, name));
    return { name, enabled: true, verifier, totp: null, ...DEFAULT_USER_SETTINGS, groups };
  }
}
