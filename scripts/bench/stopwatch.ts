/** Times one stage of the packet path: wall-clock and processor time of one call, over many. */

import { median } from "./statistics.ts";

/** One stage on one kind of input. */
export interface Stage {
  /** The stage, the same for all its inputs, such as `seal, Web Crypto`. */
  readonly name: string;
  /** The input, such as `1,400 bytes`. */
  readonly input: string;
  /** Bytes that one call works on; 0 where the price has nothing to do with bytes. */
  readonly bytes: number;
  /** Calls between two looks at the clock; `prepare` runs before each such batch and is not timed. */
  readonly batch: number;
  prepare?(): void;
  /** The `index`-th call of a batch; a promise is waited for together with the others of its batch. */
  run(index: number): unknown;
}

/** What one call costs, in nanoseconds: medians over the batches. */
export interface StageTime {
  readonly name: string;
  readonly input: string;
  readonly bytes: number;
  readonly wallNs: number;
  /** User and system time of all threads of this process. */
  readonly cpuNs: number;
}

/** Share of the time after which measuring begins: until then the compiler sees the code. */
const WARM_UP = 0.3;

/** Runs a stage for about `milliseconds`, but at least for three batches. */
export async function timeStage(stage: Stage, milliseconds: number): Promise<StageTime> {
  const walls: number[] = [];
  const startedMs = performance.now();
  let cpuUs = 0;
  let calls = 0;
  for (;;) {
    const elapsedMs = performance.now() - startedMs;
    if (elapsedMs >= milliseconds && walls.length >= 3) break;
    const isWarm = elapsedMs >= milliseconds * WARM_UP;
    stage.prepare?.();
    const before = process.cpuUsage();
    const wallNs = await timeBatch(stage);
    if (!isWarm) continue;
    const used = process.cpuUsage(before);
    cpuUs += used.user + used.system;
    calls += stage.batch;
    walls.push(wallNs / stage.batch);
  }
  const { name, input, bytes } = stage;
  return { name, input, bytes, wallNs: median(walls)!, cpuNs: (cpuUs * 1000) / calls };
}

async function timeBatch({ batch, run }: Stage): Promise<number> {
  const startNs = Bun.nanoseconds();
  const first = run(0);
  if (!(first instanceof Promise)) {
    for (let i = 1; i < batch; i++) run(i);
    return Bun.nanoseconds() - startNs;
  }
  const waiting = [first];
  for (let i = 1; i < batch; i++) waiting.push(run(i) as Promise<unknown>);
  await Promise.all(waiting);
  return Bun.nanoseconds() - startNs;
}
