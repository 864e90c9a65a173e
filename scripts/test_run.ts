/** Runs a command, shows what it prints as it comes, and counts the tests of `bun test` in it. */

/** @returns how it ended, and all that it printed */
export async function runShown(
  command: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>> = {},
): Promise<{ exitCode: number; output: string }> {
  const child = Bun.spawn([...command], {
    cwd,
    env: { ...process.env, ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const parts: string[] = [];
  const show = async (stream: ReadableStream<Uint8Array>): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      parts.push(decoder.decode(chunk, { stream: true }));
      process.stdout.write(chunk);
    }
  };
  await Promise.all([show(child.stdout), show(child.stderr)]);
  return { exitCode: await child.exited, output: parts.join("") };
}

/** Adds up the lines ` 12 pass` and ` 0 fail` that `bun test` ends with. */
export function countTests(output: string): { passed: number; failed: number } {
  const plain = Bun.stripANSI(output);
  const sum = (word: string) =>
    [...plain.matchAll(new RegExp(`^\\s*(\\d+) ${word}$`, "gm"))].reduce(
      (total, match) => total + Number(match[1]),
      0,
    );
  return { passed: sum("pass"), failed: sum("fail") };
}
