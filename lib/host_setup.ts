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
import {
  clearLinkLinux,
  planKillSwitchLinux,
  planLinux,
  removeKillSwitchLinux,
  stepsAfterReboot,
  undoLinux,
} from "./host_linux.ts";
import { isKillSwitchCommand, planKillSwitchMacos, planMacos, undoMacos } from "./host_macos.ts";
import type { HostPlan, KillSwitchPlan, OuterEndpoint } from "./host_plan.ts";
import { stateDirError, type Instance } from "./instance.ts";
import type { Log } from "./log.ts";
import { bootId, isRunning, networkNamespace, ownIdentity } from "./process_identity.ts";
import { SITE_ROUTES, siteRouteChange } from "./site_routes.ts";
import {
  keepDamagedJournal,
  readJournal,
  UndoJournal,
  type FoundJournal,
  type UndoStep,
} from "./undo_journal.ts";

/** This machine's settings, in the hands of one running program. */
export interface HostSetup {
  /**
   * Makes `plan` so. A second plan takes the first one's place without a gap: what both have stays, what is new comes
   * before what is old goes. The same plan again changes nothing. A failed plan is undone before the error is thrown.
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
  /**
   * Lays a kill switch, which stays until an orderly {@link restore} or `down`.
   *
   * @throws {SystemError} when it cannot be laid
   */
  holdBack(plan: KillSwitchPlan): Promise<void>;
  /** Keeps one more address of a server outside the tunnel, and lets it through the kill switch. Never rejects: logs. */
  admit(endpoint: OuterEndpoint): Promise<void>;
  /** Fits everything to a machine whose networks have changed, or whose rules somebody removed. Never rejects: logs. */
  refresh(): Promise<void>;
  /**
   * Puts everything back, in reverse order, and deletes the journal. May be called again. Never rejects: logs.
   *
   * @param failed the program ends with an error: a kill switch stays, with its journal, until `down` or the next start
   */
  restore(failed?: boolean): Promise<void>;
}

/** Addresses of servers that are kept outside at once; the oldest makes room. */
const MAX_ENDPOINTS = 64;
/** Name of the change that outlives a failure. */
const KILL_SWITCH = "kill switch";

/**
 * Takes this machine's settings into our hands, after putting back what a dead predecessor left.
 *
 * @param options `keepKillSwitch`: a predecessor's kill switch stays, because we are about to lay our own in its place
 * @throws {UsageError} when the instance runs already
 * @throws {SystemError} when the state directory cannot be written; nothing was changed then
 */
export async function openHostSetup(
  instance: Instance,
  log: Log,
  options: { readonly keepKillSwitch: boolean } = { keepKillSwitch: false },
): Promise<HostSetup> {
  const journal = await withStateLock(instance, async () => {
    const kept = await takeOver(instance, options.keepKillSwitch, log);
    const opened = createJournal(instance);
    opened.append(kept);
    return opened;
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
    if (found !== null && isOwned(found)) return false;
    const undone = found === null ? [] : await undoFound(instance, found, () => true, log);
    return (await liftKillSwitch(instance)) || undone.length > 0;
  });
}

/** Lifts a kill switch that no journal speaks of: the journal may be lost, or in another state directory. */
async function liftKillSwitch({ role, tun }: Instance): Promise<boolean> {
  if (role !== "client" || process.platform !== "linux") return false;
  return await removeKillSwitchLinux(tun, runCommand);
}

/** @returns the steps that stay to be undone by us */
async function takeOver(instance: Instance, keepKillSwitch: boolean, log: Log): Promise<readonly UndoStep[]> {
  const found = readJournal(instance.journalPath);
  if (found === null) return [];
  if (isOwned(found)) throw alreadyRunning(instance, found.owner?.pid);
  const isKept = (step: UndoStep): boolean => keepKillSwitch && isKillSwitch(step);
  await undoFound(instance, found, (step) => !isKept(step), log);
  return found.steps.filter(isKept);
}

/** A kill switch of either system. */
function isKillSwitch(step: UndoStep): boolean {
  return step.kind === "kill-switch" || (step.kind === "command" && isKillSwitchCommand(step.argv));
}

function isOwned({ owner }: FoundJournal): boolean {
  return owner !== null && isRunning(owner);
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

/**
 * Undoes a dead program's steps, those that still mean something here, and removes its journal.
 *
 * @param isWanted which of them
 * @returns the steps that were undone
 */
async function undoFound(
  instance: Instance,
  found: FoundJournal,
  isWanted: (step: UndoStep) => boolean,
  log: Log,
): Promise<readonly UndoStep[]> {
  const { steps, damaged } = found;
  const meaningful = (await meaningfulSteps(instance, found)).filter(isWanted);
  if (meaningful.length > 0) log.warn("Putting back what an earlier run left", { steps: meaningful.length });
  await undoSteps(meaningful, runCommand, log);
  if (damaged) {
    const kept = keepDamagedJournal(instance.journalPath);
    const reason = "it is damaged or of another version";
    log.warn(`The journal of an earlier run could not be read wholly (${reason}); it is kept as "${kept}"`, {
      readableSteps: steps.length,
    });
  } else {
    rmSync(instance.journalPath, { force: true });
  }
  return meaningful;
}

/** In another network namespace only files count; after a reboot what is surely ours. */
async function meaningfulSteps(
  { tun }: Instance,
  { header, steps }: FoundJournal,
): Promise<readonly UndoStep[]> {
  // Without a header we cannot tell; every step names exactly what it removes, so trying is safe.
  if (header === null) return steps;
  if (header.netns !== networkNamespace()) return steps.filter(({ kind }) => kind === "resolv-conf");
  if (header.bootId === bootId()) return steps;
  if (process.platform !== "linux") return [];
  return await stepsAfterReboot(steps, tun, runCommand);
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

/** A change that was made. */
interface Made {
  readonly key: string;
  readonly undo: readonly UndoStep[];
}

class JournaledHostSetup implements HostSetup {
  readonly #instance: Instance;
  readonly #journal: UndoJournal;
  readonly #log: Log;
  /** The last piece of work: the next one waits for it, so that a signal in the middle of a start undoes all. */
  #busy: Promise<void> = Promise.resolve();
  #plan: HostPlan | null = null;
  #killSwitch: KillSwitchPlan | null = null;
  #endpoints: readonly OuterEndpoint[] = [];
  /** What stands, by name, in the order of its making. */
  readonly #made = new Map<string, Made>();
  /** Networks of {@link routeNetworks}. */
  #routed: readonly string[] = [];
  #restored = false;

  constructor(instance: Instance, journal: UndoJournal, log: Log) {
    this.#instance = instance;
    this.#journal = journal;
    this.#log = log;
    const inherited = journal.steps.filter(isKillSwitch);
    if (inherited.length > 0) this.#made.set(KILL_SWITCH, { key: "", undo: inherited });
  }

  apply(plan: HostPlan): Promise<void> {
    return this.#inTurn(() => this.#replace(plan));
  }

  routeNetworks(networks: readonly string[]): Promise<void> {
    return this.#inTurn(() => this.#logged("route the networks behind clients", () => this.#route(networks)));
  }

  holdBack(plan: KillSwitchPlan): Promise<void> {
    return this.#inTurn(async () => {
      this.#killSwitch = plan;
      const inherited = this.#made.has(KILL_SWITCH);
      try {
        await this.#layKillSwitch();
      } catch (error) {
        this.#killSwitch = null;
        // One that a predecessor left stands as it was.
        if (!inherited) await this.#undo(() => true);
        throw error;
      }
    });
  }

  admit(endpoint: OuterEndpoint): Promise<void> {
    const isKnown = this.#endpoints.some((known) => Bun.deepEquals(known, endpoint));
    if (isKnown) return Promise.resolve();
    return this.#inTurn(async () => {
      this.#endpoints = [...this.#endpoints, endpoint].slice(-MAX_ENDPOINTS);
      await this.#logged(`keep ${endpoint.address} outside the tunnel`, () => this.#fit());
    });
  }

  refresh(): Promise<void> {
    return this.#inTurn(() => this.#logged("fit the tunnel to the changed network", () => this.#fit()));
  }

  restore(failed = false): Promise<void> {
    return this.#inTurn(() => this.#end(failed));
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const result = this.#busy.then(work);
    this.#busy = result.catch(() => undefined); // the caller of `result` gets the error
    return result;
  }

  async #replace(plan: HostPlan): Promise<void> {
    if (this.#restored) throw new Error("HostSetup.apply() after restore()");
    if (Bun.deepEquals(this.#plan, plan)) return;
    try {
      await this.#transition(plan);
    } catch (error) {
      await this.#undo();
      throw error;
    }
  }

  /** Makes what stands fit again, after something around it has changed. */
  async #fit(): Promise<void> {
    if (this.#restored) return;
    await this.#layKillSwitch();
    if (this.#plan !== null) await this.#transition(this.#plan);
  }

  async #layKillSwitch(): Promise<void> {
    if (this.#killSwitch === null) return;
    await this.#make([await this.#planKillSwitch(this.#killSwitch)]);
  }

  async #transition(plan: HostPlan): Promise<void> {
    const changes = await this.#planChanges(this.#withEndpoints(plan));
    const wanted = new Set([...changes.map(({ name }) => name), KILL_SWITCH, SITE_ROUTES]);
    const gone = [...this.#made].filter(([name]) => !wanted.has(name));
    await this.#make(changes);
    this.#plan = plan;
    for (const [name, { undo }] of gone) {
      await undoSteps(undo, runCommand, this.#log);
      this.#made.delete(name);
    }
    this.#compact();
  }

  async #route(networks: readonly string[]): Promise<void> {
    if (this.#restored) return;
    const tun = this.#plan?.tun ?? this.#instance.tun;
    await this.#make([siteRouteChange(tun, this.#routed, networks, runCommand, this.#log)]);
    this.#routed = networks;
    this.#compact();
  }

  #withEndpoints(plan: HostPlan): HostPlan {
    if (plan.role !== "client") return plan;
    return { ...plan, endpoints: [...this.#endpoints, ...plan.endpoints] };
  }

  #planChanges(plan: HostPlan): Promise<readonly HostChange[]> {
    const standing = { plan: this.#plan, steps: (name: string) => this.#made.get(name)?.undo ?? [] };
    if (process.platform === "darwin") return planMacos(plan, standing, runCommand, this.#log);
    return planLinux(plan, standing, this.#instance, runCommand, this.#log);
  }

  #planKillSwitch(plan: KillSwitchPlan): Promise<HostChange> {
    const planIt = process.platform === "darwin" ? planKillSwitchMacos : planKillSwitchLinux;
    return planIt(plan, this.#endpoints, runCommand, this.#log);
  }

  /** Makes those changes that are not made yet. */
  async #make(changes: readonly HostChange[]): Promise<void> {
    const due = changes.filter(({ name, key }) => this.#made.get(name)?.key !== key);
    this.#write(due);
    for (const change of due) {
      this.#made.set(change.name, { key: change.key, undo: change.undo });
      await this.#makeOne(change);
    }
  }

  #write(changes: readonly HostChange[]): void {
    try {
      this.#journal.append(changes.flatMap(({ undo }) => undo));
    } catch (error) {
      throw stateDirError(this.#instance.stateDir, error);
    }
  }

  async #makeOne(change: HostChange): Promise<void> {
    try {
      await change.apply();
    } catch (error) {
      if (change.onFailure === "throw") throw error;
      this.#log.warn(`Going on without ${change.name}: ${messageOf(error)}`);
    }
  }

  /** Keeps the journal as short as what stands; steps of changes that were replaced are left over otherwise. */
  #compact(): void {
    const steps = [...this.#made.values()].flatMap(({ undo }) => undo);
    if (this.#journal.steps.length > steps.length) this.#journal.replace(steps);
  }

  /** Undoes the plan and those steps besides; without them the kill switch stays. */
  async #undo(isWanted: (step: UndoStep) => boolean = (step) => !isKillSwitch(step)): Promise<void> {
    const { steps } = this.#journal;
    await undoSteps(steps.filter(isWanted), runCommand, this.#log);
    await this.#logged("clear the interface", () => this.#clearLink());
    const left = steps.filter((step) => !isWanted(step));
    await this.#logged("empty the journal", () =>
      left.length === 0 ? this.#journal.clear() : this.#journal.replace(left),
    );
    for (const [name, { undo }] of this.#made) if (undo.every(isWanted)) this.#made.delete(name);
    this.#plan = null;
    this.#routed = [];
  }

  async #end(failed: boolean): Promise<void> {
    if (this.#restored) return;
    const stays = failed && this.#journal.steps.some(isKillSwitch);
    if (this.#made.size > 0) await this.#undo(stays ? (step) => !isKillSwitch(step) : () => true);
    this.#restored = true;
    if (stays) {
      this.#log.warn("The kill switch stays: nothing leaves this machine until `omail-client down` lifts it");
      return this.#journal.close();
    }
    await this.#logged("delete the journal", () => this.#journal.remove());
  }

  async #clearLink(): Promise<void> {
    if (process.platform === "linux") await clearLinkLinux(this.#instance.tun, runCommand);
  }

  /** The way goes on, whatever happens on it. */
  async #logged(what: string, work: () => Promise<void> | void): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#log.warn(`Cannot ${what}: ${messageOf(error)}`);
    }
  }
}
