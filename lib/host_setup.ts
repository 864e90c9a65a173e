/**
 * Makes this machine what a plan wants while a tunnel is up, and puts it back afterwards, even after a crash.
 *
 * The way of a change: plan (read only) → undo steps into the journal, on disk → apply. The way back: undo steps in
 * reverse order → journal emptied or deleted. A process that finds the journal of a dead one goes the way back first.
 */

import { rmSync } from "node:fs";
import { errorCode, messageOf } from "./caught.ts";
import { runCommand, type RunCommand } from "./command.ts";
import { UsageError } from "./errors.ts";
import { withFileLock } from "./file_lock.ts";
import type { HostChange } from "./host_change.ts";
import { clearLinkLinux, planLinux, undoLinux } from "./host_linux.ts";
import { planMacos, undoMacos } from "./host_macos.ts";
import type { HostPlan } from "./host_plan.ts";
import { stateDirError, type Instance } from "./instance.ts";
import type { Log } from "./log.ts";
import { bootId, isRunning, networkNamespace, ownIdentity } from "./process_identity.ts";
import { routeDifference, siteRouteChange } from "./site_routes.ts";
import {
  keepDamagedJournal,
  readJournal,
  survivesReboot,
  UndoJournal,
  type FoundJournal,
  type UndoStep,
} from "./undo_journal.ts";

/** This machine's settings, in the hands of one running program. */
export interface HostSetup {
  /**
   * Makes `plan` so. A second plan takes the first one's place; in between, the machine is as it was without a tunnel.
   * The same plan again changes nothing. A failed plan is undone before the error is thrown.
   *
   * @throws {SystemError} when the addresses, NAT or forwarding cannot be set, or the journal cannot be written
   * @throws {PrivilegeError} when the kernel refuses for lack of privilege
   * @throws {UsageError} when the plan itself is impossible
   */
  apply(plan: HostPlan): Promise<void>;
  /**
   * Routes networks that are behind a server's clients into the tunnel, and no others that an earlier call did. Never
   * rejects: a route that cannot be set is logged.
   */
  routeNetworks(networks: readonly string[]): Promise<void>;
  /** Puts everything back, in reverse order, and deletes the journal. May be called again. Never rejects: logs. */
  restore(): Promise<void>;
}

/**
 * Takes this machine's settings into our hands, after putting back what a dead predecessor left.
 *
 * @throws {UsageError} when the instance runs already
 * @throws {SystemError} when the state directory cannot be written; nothing was changed then
 */
export async function openHostSetup(instance: Instance, log: Log): Promise<HostSetup> {
  const journal = await withStateLock(instance, async () => {
    await takeOver(instance, log);
    return createJournal(instance);
  });
  return new JournaledHostSetup(instance, journal, log);
}

/**
 * Puts back what a dead program of this instance left, for `down`.
 *
 * @returns whether there was something; false also when the program still runs, which is then left alone
 */
export async function repair(instance: Instance, log: Log): Promise<boolean> {
  return withStateLock(instance, async () => {
    const found = readJournal(instance.journalPath);
    if (found === null || isOwned(found)) return false;
    await undoFound(instance, found, log);
    return found.steps.length > 0;
  });
}

async function takeOver(instance: Instance, log: Log): Promise<void> {
  const found = readJournal(instance.journalPath);
  if (found === null) return;
  if (isOwned(found)) throw alreadyRunning(instance, found.header?.pid);
  await undoFound(instance, found, log);
}

function isOwned({ header }: FoundJournal): boolean {
  return header !== null && isRunning(header);
}

function alreadyRunning({ role, tun }: Instance, pid: number | undefined): UsageError {
  return new UsageError(
    `The ${role} for "${tun}" is already running (process ${pid}): stop it first, or choose another --tun`,
  );
}

function createJournal(instance: Instance): UndoJournal {
  const header = { version: 1, ...ownIdentity(), tun: instance.tun, netns: networkNamespace() } as const;
  return new UndoJournal(instance.journalPath, header);
}

/** Undoes a dead program's steps, those that still mean something here, and removes its journal. */
async function undoFound(instance: Instance, found: FoundJournal, log: Log): Promise<void> {
  const { header, steps, damaged } = found;
  // Without a header we cannot tell; every step names exactly what it removes, so trying is safe.
  const here = header === null || (header.bootId === bootId() && header.netns === networkNamespace());
  const meaningful = here ? steps : steps.filter(survivesReboot);
  if (meaningful.length > 0) log.warn("Putting back what an earlier run left", { steps: meaningful.length });
  await undoSteps(meaningful, runCommand, log);
  if (damaged) {
    const kept = keepDamagedJournal(instance.journalPath);
    log.warn(`The journal of an earlier run could not be read wholly; it is kept as "${kept}"`);
  } else {
    rmSync(instance.journalPath, { force: true });
  }
}

/** Whoever reads or makes the journal does it alone. A disk error becomes one that names the state directory. */
async function withStateLock<T>(instance: Instance, section: () => Promise<T>): Promise<T> {
  return withFileLock(instance.lockPath, section).catch((error: unknown) => {
    throw errorCode(error) === "" ? error : stateDirError(instance.stateDir, error);
  });
}

/** Steps in the order they were made, undone last first. */
function undoSteps(steps: readonly UndoStep[], run: RunCommand, log: Log): Promise<void> {
  const undo = process.platform === "darwin" ? undoMacos : undoLinux;
  return undo(steps.toReversed(), run, log);
}

class JournaledHostSetup implements HostSetup {
  readonly #instance: Instance;
  readonly #journal: UndoJournal;
  readonly #log: Log;
  /** The last apply or restore: the next one waits for it, so that a signal in the middle of a start undoes all. */
  #busy: Promise<void> = Promise.resolve();
  #applied: HostPlan | null = null;
  /** Networks of {@link routeNetworks}. */
  #routed: readonly string[] = [];
  #restored = false;

  constructor(instance: Instance, journal: UndoJournal, log: Log) {
    this.#instance = instance;
    this.#journal = journal;
    this.#log = log;
  }

  apply(plan: HostPlan): Promise<void> {
    return this.#inTurn(() => this.#replace(plan));
  }

  routeNetworks(networks: readonly string[]): Promise<void> {
    return this.#inTurn(() => this.#logged("route the networks behind clients", () => this.#route(networks)));
  }

  restore(): Promise<void> {
    return this.#inTurn(() => this.#end());
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const result = this.#busy.then(work);
    this.#busy = result.catch(() => undefined); // the caller of `result` gets the error
    return result;
  }

  async #replace(plan: HostPlan): Promise<void> {
    if (this.#restored) throw new Error("HostSetup.apply() after restore()");
    if (Bun.deepEquals(this.#applied, plan)) return;
    if (this.#applied !== null) await this.#undo();
    const changes = await this.#plan(plan);
    this.#applied = plan;
    try {
      this.#write(changes);
      for (const change of changes) await this.#make(change);
    } catch (error) {
      await this.#undo();
      throw error;
    }
  }

  #plan(plan: HostPlan): Promise<readonly HostChange[]> {
    if (process.platform === "darwin") return planMacos(plan, runCommand, this.#log);
    return planLinux(plan, this.#instance, runCommand, this.#log);
  }

  async #route(networks: readonly string[]): Promise<void> {
    if (this.#restored) return;
    const difference = routeDifference(this.#routed, networks);
    const change = siteRouteChange(
      this.#applied?.tun ?? this.#instance.tun,
      difference,
      runCommand,
      this.#log,
    );
    this.#write([change]);
    this.#routed = networks;
    await this.#make(change);
  }

  #write(changes: readonly HostChange[]): void {
    try {
      this.#journal.append(changes.flatMap(({ undo }) => undo));
    } catch (error) {
      throw stateDirError(this.#instance.stateDir, error);
    }
  }

  async #make(change: HostChange): Promise<void> {
    try {
      await change.apply();
    } catch (error) {
      if (change.onFailure === "throw") throw error;
      this.#log.warn(`Going on without ${change.name}: ${messageOf(error)}`);
    }
  }

  async #undo(): Promise<void> {
    await undoSteps(this.#journal.steps, runCommand, this.#log);
    await this.#logged("clear the interface", () => this.#clearLink());
    await this.#logged("empty the journal", () => this.#journal.clear());
    this.#applied = null;
    this.#routed = [];
  }

  async #end(): Promise<void> {
    if (this.#restored) return;
    if (this.#applied !== null) await this.#undo();
    this.#restored = true;
    await this.#logged("delete the journal", () => this.#journal.remove());
  }

  async #clearLink(): Promise<void> {
    if (process.platform === "linux") await clearLinkLinux(this.#instance.tun, runCommand);
  }

  /** The way back goes on, whatever happens on it. */
  async #logged(what: string, work: () => Promise<void> | void): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#log.warn(`Cannot ${what}: ${messageOf(error)}`);
    }
  }
}
