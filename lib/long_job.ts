/**
 * Jobs that keep one of Bun's crypto threads for long, told to whoever keeps these threads back from others.
 *
 * The threads belong to the process, so what is known of them does, too.
 */

let running = 0;
let told: ((running: boolean) => void) | null = null;

/** Does `job`; while such jobs run, nobody keeps threads back. */
export async function longJob<Result>(job: () => Promise<Result>): Promise<Result> {
  if (++running === 1) told?.(true);
  try {
    return await job();
  } finally {
    if (--running === 0) told?.(false);
  }
}

/** Calls `listener` with true when the first of some jobs begins and with false when the last has ended; null for nobody. */
export function onLongJobs(listener: ((running: boolean) => void) | null): void {
  told = listener;
  if (running > 0) told?.(true);
}
