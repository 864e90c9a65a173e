/** Time-outs of the end-to-end tests, scaled by one variable, and waiting for a condition instead of sleeping. */

/** `TIMEOUT_SCALE=3` gives a slow machine three times as long for everything that is only a time-out. */
const scale = Number(process.env["TIMEOUT_SCALE"] ?? "1");
if (!(scale > 0)) {
  throw new Error(`Cannot use TIMEOUT_SCALE="${process.env["TIMEOUT_SCALE"]}": expected a number above 0`);
}

/** Milliseconds of a time-out of `count` seconds on this machine. Never use it for what a test measures. */
export function timeoutSeconds(count: number): number {
  return count * 1000 * scale;
}

/**
 * Asks `probe` again and again until it answers something else than `undefined`.
 *
 * @param what what is waited for, for the error
 * @throws {Error} when `limitMs` have passed; says how often `probe` was asked, and names its last error if it threw
 */
export async function until<Answer>(
  what: string,
  limitMs: number,
  probe: () => Promise<Answer | undefined>,
  pauseMs = 50,
): Promise<Answer> {
  const end = performance.now() + limitMs;
  let lastError: unknown;
  let tries = 0;
  while (performance.now() < end) {
    tries++;
    try {
      const answer = await probe();
      if (answer !== undefined) return answer;
    } catch (error) {
      lastError = error;
    }
    await Bun.sleep(pauseMs);
  }
  const cause = lastError instanceof Error ? ` (last error: ${lastError.message})` : "";
  throw new Error(`Asked ${tries} times in ${Math.round(limitMs)} ms in vain for ${what}${cause}`);
}

/** Rejects when `work` takes longer than `limitMs`; `work` itself goes on. */
export async function within<Answer>(what: string, limitMs: number, work: Promise<Answer>): Promise<Answer> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`${what} took longer than ${Math.round(limitMs)} ms`)),
      limitMs,
    );
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
