/**
 * Keeps some of Bun's crypto threads from taking jobs, so that the others take several in a row, Linux only.
 *
 * Bun has as many threads for Web Crypto (and file reads) as there are processors, at least two, and wakes one for each
 * record. Where AES is fast a record is done before the next one comes: each thread goes to sleep after each record and is woken
 * again, which costs almost as much as the cipher. Fewer threads find more records in their queue. A thread is kept back by a
 * read of an eventfd (eventfd(2), EFD_SEMAPHORE) that has nothing to give. Long jobs such as PBKDF2 get theirs meanwhile: see
 * `long_job.ts`.
 */

import { read } from "node:fs";
import { availableParallelism } from "node:os";
import { libc, ptr } from "./libc.ts";
import { EFD_CLOEXEC, EFD_SEMAPHORE, eventfd } from "./libc_linux.ts";
import { onLongJobs } from "./long_job.ts";

/** Bun starts no fewer. */
const FEWEST_THREADS = 2;
/** What was sealed to see how fast this machine is, and how often: the fastest counts, since others run here, too. */
const SAMPLE_BYTES = 65_536;
const SAMPLES = 8;
/** A slower machine, one without AES instructions, needs every thread: 330 MB/s. */
const SLOW_SAMPLE_MS = 0.2;
/** A job that is not done in this time has no thread left: there are fewer than we counted. */
const STUCK_AFTER_MS = 1_000;

/** How many of Bun's `threads` to keep back on a machine that seals {@link SAMPLE_BYTES} in `sampleMs`. */
export function threadsToKeepBack(threads: number, sampleMs: number): number {
  return sampleMs > SLOW_SAMPLE_MS ? 0 : threads - Math.max(1, threads >> 1);
}

/** The threads that this process keeps back. */
export class KeptBackThreads {
  readonly #fd: number;
  readonly #count: number;
  #held = 0;
  #closed = false;

  private constructor(fd: number, count: number) {
    this.#fd = fd;
    this.#count = count;
  }

  /**
   * Keeps back as many as is good for this machine; null when that is none. An operator who chose a number gets it.
   *
   * @param measure as {@link sealingMs}
   */
  static async open(env: NodeJS.ProcessEnv, measure = sealingMs): Promise<KeptBackThreads | null> {
    if (env["UV_THREADPOOL_SIZE"] !== undefined || env["GOMAXPROCS"] !== undefined) return null;
    const threads = Math.max(FEWEST_THREADS, availableParallelism());
    const count = threadsToKeepBack(threads, await measure());
    const fd = count === 0 ? -1 : eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
    if (fd < 0) return null;
    const kept = new KeptBackThreads(fd, count);
    kept.#hold();
    onLongJobs((running) => (running ? kept.#release() : kept.#hold()));
    if (!(await answersInTime())) kept.close();
    return kept;
  }

  /** Gives all threads back; otherwise the process could not end. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    onLongJobs(null);
    this.#release();
  }

  #hold(): void {
    if (this.#closed) return;
    for (; this.#held < this.#count; this.#held++) read(this.#fd, Buffer.alloc(8), 0, 8, null, () => {});
  }

  #release(): void {
    const count = new BigUint64Array([BigInt(this.#held)]);
    this.#held = 0;
    libc.write(this.#fd, ptr(count), 8);
  }
}

/** Milliseconds in which this machine seals {@link SAMPLE_BYTES}, the way to the thread and back included. */
async function sealingMs(): Promise<number> {
  const sample = new Uint8Array(SAMPLE_BYTES);
  let fastest = Infinity;
  for (let i = 0; i < SAMPLES; i++) {
    const startedMs = performance.now();
    await seal(sample);
    fastest = Math.min(fastest, performance.now() - startedMs);
  }
  return fastest;
}

/** Whether a job still finds a thread. */
async function answersInTime(): Promise<boolean> {
  const timedOut = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => timedOut.resolve(false), STUCK_AFTER_MS);
  const inTime = await Promise.race([seal(new Uint8Array(1)).then(() => true), timedOut.promise]);
  clearTimeout(timer);
  return inTime;
}

/** A job for the crypto threads, of nothing that is secret; a digest of so little would be done at once. */
async function seal(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const iv = new Uint8Array(12);
  const key = await crypto.subtle.importKey("raw", new Uint8Array(32), "AES-GCM", false, ["encrypt"]);
  await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, bytes);
}
