/** Threads that are kept back, jobs that find one all the same, and jobs that take long. */

import { expect, test } from "bun:test";
import { read } from "node:fs";
import { availableParallelism } from "node:os";
import { KeptBackThreads, threadsToKeepBack } from "../../lib/crypto_threads.ts";
import { libc, ptr } from "../../lib/libc.ts";
import { EFD_CLOEXEC, EFD_SEMAPHORE, eventfd } from "../../lib/libc_linux.ts";
import { longJob, onLongJobs } from "../../lib/long_job.ts";

test("threadsToKeepBack: half of them where AES is fast, but one, and none where it is slow", () => {
  expect([2, 3, 4, 8].map((threads) => threadsToKeepBack(threads, 0.05))).toEqual([1, 2, 2, 4]);
  expect([2, 3, 4, 8].map((threads) => threadsToKeepBack(threads, 0.5))).toEqual([0, 0, 0, 0]);
});

test("longJob: the first of some tells, the last tells, whatever becomes of them", async () => {
  const told: boolean[] = [];
  onLongJobs((running) => void told.push(running));
  const [first, second] = [Promise.withResolvers<number>(), Promise.withResolvers<number>()];
  const jobs = [longJob(() => first.promise), longJob(() => second.promise)];
  expect(told).toEqual([true]);
  first.resolve(1);
  expect(await jobs[0]).toBe(1);
  expect(told).toEqual([true]);
  second.reject(new Error("no"));
  await expect(jobs[1]).rejects.toThrow("no");
  expect(told).toEqual([true, false]);
  onLongJobs(null);
});

test("longJob: who comes later hears of what runs", async () => {
  const job = Promise.withResolvers<void>();
  const running = longJob(() => job.promise);
  const told: boolean[] = [];
  onLongJobs((isRunning) => void told.push(isRunning));
  expect(told).toEqual([true]);
  job.resolve();
  await running;
  expect(told).toEqual([true, false]);
  onLongJobs(null);
});

const isLinux = process.platform === "linux";
const fast = async (): Promise<number> => 0.05;

test.if(isLinux)(
  "KeptBackThreads: an operator's number and a slow machine's threads are left alone",
  async () => {
    expect(await KeptBackThreads.open({ UV_THREADPOOL_SIZE: "2" }, fast)).toBeNull();
    expect(await KeptBackThreads.open({ GOMAXPROCS: "4" }, fast)).toBeNull();
    expect(await KeptBackThreads.open({}, async () => 0.5)).toBeNull();
  },
);

test.if(isLinux)("KeptBackThreads: jobs share the others, and a long one has all threads", async () => {
  const kept = await KeptBackThreads.open({}, fast);
  const threads = Math.max(2, availableParallelism());
  const busy = new BusyThreads(threads - threadsToKeepBack(threads, 0.05));
  try {
    await Bun.sleep(50);
    const waiting = seal();
    expect(await Promise.race([waiting, Bun.sleep(100)])).toBeUndefined();
    const { promise, resolve } = Promise.withResolvers<void>();
    const long = longJob(() => promise);
    expect(await waiting).toBe("sealed");
    resolve();
    await long;
    expect(await Promise.race([seal(), Bun.sleep(100)])).toBeUndefined();
    kept!.close();
    kept!.close();
    expect(await seal()).toBe("sealed");
    await longJob(seal);
  } finally {
    kept!.close();
    busy.end();
  }
});

/** Threads that wait in a read of their own. */
class BusyThreads {
  readonly #fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
  readonly #count: number;

  constructor(count: number) {
    this.#count = count;
    for (let i = 0; i < count; i++) read(this.#fd, Buffer.alloc(8), 0, 8, null, () => {});
  }

  end(): void {
    libc.write(this.#fd, ptr(new BigUint64Array([BigInt(this.#count)])), 8);
  }
}

/** A job for a crypto thread. */
async function seal(): Promise<string> {
  const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt"]);
  await crypto.subtle.encrypt({ name: "AES-GCM", iv: new Uint8Array(12) }, key, new Uint8Array(1));
  return "sealed";
}
