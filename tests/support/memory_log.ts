/** A log that keeps its lines, for tests that look at them. */

import { LOG_LEVELS, type Log, type LogLevel } from "../../lib/log.ts";

/** Makes a log and the list of lines that it fills. */
export function memoryLog(): { log: Log; lines: { level: LogLevel; message: string }[] } {
  const lines: { level: LogLevel; message: string }[] = [];
  const entries = LOG_LEVELS.map(
    (level) => [level, (message: string) => void lines.push({ level, message })] as const,
  );
  return { log: Object.fromEntries(entries) as unknown as Log, lines };
}
