/** The log on consola: one line a message, to stderr. */

import { createConsola, type ConsolaReporter } from "consola/core";
import type { Log, LogFields, LogLevel } from "./log.ts";

export type LogFormat = "text" | "json";

/** Where and how lines are written. */
export interface LogOptions {
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Colour the level; only for a terminal. */
  readonly colors: boolean;
  /** Put the time in front; the systemd journal has its own. */
  readonly timestamps: boolean;
  /** Receives one line with its line end. */
  readonly write: (line: string) => void;
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
}

/** consola's numbers for our levels. */
const CONSOLA_LEVEL: Readonly<Record<LogLevel, number>> = { error: 0, warn: 1, info: 3, debug: 4 };
const COLOR: Readonly<Record<LogLevel, number>> = { error: 31, warn: 33, info: 36, debug: 90 };

/** A log that writes lines `time level message key=value`, or JSON objects. */
export function createLog(options: LogOptions): Log {
  const render = options.format === "json" ? renderJson : renderText;
  const reporter: ConsolaReporter = {
    log: (entry) => {
      const level = isLevel(entry.type) ? entry.type : "info";
      const [message, fields] = entry.args as [string, LogFields | undefined];
      options.write(`${render(options, level, message, fields ?? {})}\n`);
    },
  };
  const consola = createConsola({
    level: CONSOLA_LEVEL[options.level],
    reporters: [reporter],
    // consola would swallow equal messages that follow each other; what may flood is limited where it arises.
    throttle: 0,
  });
  return {
    error: (message, fields) => consola.error(message, fields),
    warn: (message, fields) => consola.warn(message, fields),
    info: (message, fields) => consola.info(message, fields),
    debug: (message, fields) => consola.debug(message, fields),
  };
}

/** Makes the log of a program: to stderr, coloured on a terminal, without times under systemd. */
export function createProcessLog(level: LogLevel, format: LogFormat): Log {
  const { env } = process;
  return createLog({
    level,
    format,
    colors: process.stderr.isTTY && env["NO_COLOR"] === undefined && env["TERM"] !== "dumb",
    timestamps: env["JOURNAL_STREAM"] === undefined,
    write: (line) => process.stderr.write(line),
    now: Date.now,
  });
}

function isLevel(type: string): type is LogLevel {
  return type in CONSOLA_LEVEL;
}

function renderText(options: LogOptions, level: LogLevel, message: string, fields: LogFields): string {
  const time = options.timestamps ? `${new Date(options.now()).toISOString()} ` : "";
  const name = options.colors ? `\u001B[${COLOR[level]}m${level.padEnd(5)}\u001B[39m` : level.padEnd(5);
  let line = `${time}${name} ${escapeControls(message)}`;
  for (const [key, value] of Object.entries(fields)) {
    if (value !== undefined) line += ` ${key}=${quoteValue(String(value))}`;
  }
  return line;
}

function renderJson(options: LogOptions, level: LogLevel, message: string, fields: LogFields): string {
  const time = new Date(options.now()).toISOString();
  // Ours last: a field may not pass for the level or the message.
  return JSON.stringify({ ...fields, time, level, message });
}

/** Values with spaces, quotes or `=` are quoted, so that a line can be taken apart again. */
function quoteValue(text: string): string {
  return /^[^\s"=\p{Cc}]+$/u.test(text) ? text : JSON.stringify(text);
}

/** Names and reasons come from the network too: no line end and no escape sequence of theirs reaches a terminal. */
function escapeControls(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (character) => JSON.stringify(character).slice(1, -1));
}
