/**
 * Keeps the firewall's access policy in step with who is connected, and with the configuration.
 *
 * Changes are written one after the other; those that come while one is being written share the next. Whoever waits
 * for a change is told when one that holds it is in force.
 */

import { type AccessPolicy, grantsFor, withPushedRoutes } from "./access_policy.ts";
import { messageOf } from "./caught.ts";
import { policyScript } from "./firewall_policy.ts";
import type { Log } from "./log.ts";

/** Somebody who is connected. */
export interface ConnectedMember {
  readonly user: string;
  /** Inner addresses without prefix length, and networks behind the client (CIDR). */
  readonly addresses: readonly string[];
}

export interface PolicyKeeperOptions {
  readonly tun: string;
  /** NAT is on, so connections are tracked anyhow. */
  readonly nat: boolean;
  readonly policy: AccessPolicy;
  /** Groups of a user as they are now. */
  readonly groupsOf: (user: string) => readonly string[];
  /** Networks that are pushed to a user besides those of the server. */
  readonly routesOf: (user: string) => readonly string[];
  /** Loads a script atomically. */
  readonly load: (script: string) => Promise<void>;
  readonly log: Log;
}

/** The policy in force. */
export class PolicyKeeper {
  readonly #options: PolicyKeeperOptions;
  #policy: AccessPolicy;
  #members: readonly ConnectedMember[] = [];
  #written: string;
  #next: Promise<void> | null = null;
  #last: Promise<void> = Promise.resolve();

  constructor(options: PolicyKeeperOptions) {
    this.#options = options;
    this.#policy = options.policy;
    this.#written = this.script();
  }

  /** What the table holds, or is about to. */
  script(): string {
    const { tun, nat, groupsOf, routesOf } = this.#options;
    const policyOf = (user: string): AccessPolicy => withPushedRoutes(this.#policy, routesOf(user));
    const differs = this.#members.some(({ user }) => policyOf(user) !== this.#policy);
    const byMember = this.#policy.rules.length > 0 || differs;
    const members = byMember ? this.#members : [];
    return policyScript({
      tun,
      byMember,
      tracked: nat || byMember,
      otherwise: grantsFor({ ...this.#policy, rules: [] }, "", []),
      members: members.map(({ user, addresses }) => ({
        addresses,
        grants: grantsFor(policyOf(user), user, groupsOf(user)),
      })),
    });
  }

  /** Whether a tunnel must not run without its table. */
  get required(): boolean {
    return this.#policy.rules.length > 0 || this.#policy.otherwise === "none";
  }

  /** Takes over who is connected. Resolves when that is in force, or failed: then newcomers stay shut out. */
  setMembers(members: readonly ConnectedMember[]): Promise<void> {
    this.#members = members;
    return this.#write();
  }

  /** Takes over a changed configuration. */
  setPolicy(policy: AccessPolicy): Promise<void> {
    this.#policy = policy;
    return this.#write();
  }

  #write(): Promise<void> {
    this.#next ??= this.#last.then(() => {
      this.#next = null;
      this.#last = this.#writeNow();
      return this.#last;
    });
    return this.#next;
  }

  async #writeNow(): Promise<void> {
    const script = this.script();
    if (script === this.#written) return;
    try {
      await this.#options.load(script);
      this.#written = script;
    } catch (error) {
      this.#options.log.error(`The access policy is not up to date: ${messageOf(error)}`);
    }
  }
}
