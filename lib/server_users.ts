/** The users of a server, as password verifiers; those who do not exist look like those who do. */

import { type AccessList, isAllowed, makeAccessList } from "./access_list.ts";
import { UsageError } from "./errors.ts";
import { fakeVerifier, makeVerifier, prepareText, saltForUser, type Verifier } from "./password.ts";

/** A user as the configuration names it. */
export interface UserPassword {
  readonly name: string;
  readonly password: string;
  /** Outer networks (CIDR) that this user may, or may not, come from; see `access_list.ts`. */
  readonly allowFrom?: readonly string[];
  readonly denyFrom?: readonly string[];
}

/** Fewest bytes of the secret that fake verifiers are made from. */
const MIN_SECRET_BYTES = 32;

/** Who may log in. Passwords are not kept. */
export class ServerUsers {
  readonly #secret: Uint8Array<ArrayBuffer>;
  #access: ReadonlyMap<string, AccessList> = new Map();
  #verifiers: ReadonlyMap<string, Verifier> = new Map();

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
   * Makes these the only users. Each costs one PBKDF2, about 65 ms, off the main thread.
   *
   * @throws {UsageError} when a name or password cannot be used, or a name comes twice; nothing has changed then
   */
  async replace(users: readonly UserPassword[]): Promise<void> {
    const entries = await Promise.all(users.map((user) => this.#verifierFor(user)));
    const verifiers = new Map(entries);
    if (verifiers.size < entries.length) {
      const names = entries.map(([name]) => name);
      const twice = names.find((name, i) => names.indexOf(name) !== i);
      throw new UsageError(`Cannot use user "${twice}" twice: expected one entry for each name`);
    }
    this.#verifiers = verifiers;
    this.#access = new Map(
      users.map(({ name, allowFrom = [], denyFrom = [] }) => [
        prepareText(name, "user name"),
        makeAccessList(allowFrom, denyFrom),
      ]),
    );
  }

  has(user: string): boolean {
    return this.#verifiers.has(user);
  }

  /** Whether this user may come from an outer address. */
  mayComeFrom(user: string, address: string): boolean {
    const list = this.#access.get(user);
    return list === undefined || isAllowed(list, address);
  }

  /** The verifier of a user, or a stable fake one. The fake is made for everybody, so that both take the same time. */
  async verifierOf(user: string): Promise<Verifier> {
    const fake = await fakeVerifier(this.#secret, user);
    return this.#verifiers.get(user) ?? fake;
  }

  async #verifierFor({ name, password }: UserPassword): Promise<[string, Verifier]> {
    const user = prepareText(name, "user name");
    return [user, await makeVerifier(password, await saltForUser(this.#secret, user))];
  }
}
