import { describe, expect, test } from "bun:test";
import { createLog, type LogOptions } from "../../lib/log_consola.ts";
import type { Log } from "../../lib/log.ts";

function collect(options: Partial<LogOptions> = {}): { log: Log; lines: string[] } {
  const lines: string[] = [];
  const log = createLog({
    level: "info",
    format: "text",
    colors: false,
    timestamps: true,
    write: (line) => lines.push(line),
    now: () => Date.UTC(2026, 0, 2, 3, 4, 5, 678),
    ...options,
  });
  return { log, lines };
}

describe("createLog()", () => {
  test("writes time, level, message and fields on one line", () => {
    const { log, lines } = collect();
    log.info("Connected", { server: "192.0.2.1:51820", user: "ann b", none: undefined, epoch: 0, up: true });
    expect(lines).toEqual([
      '2026-01-02T03:04:05.678Z info  Connected server=192.0.2.1:51820 user="ann b" epoch=0 up=true\n',
    ]);
  });

  test("leaves out the time under systemd", () => {
    const { log, lines } = collect({ timestamps: false });
    log.warn("Slow");
    expect(lines).toEqual(["warn  Slow\n"]);
  });

  test("writes only what is as important as the level", () => {
    const { log, lines } = collect({ level: "warn", timestamps: false });
    log.error("a");
    log.warn("b");
    log.info("c");
    log.debug("d");
    expect(lines).toEqual(["error a\n", "warn  b\n"]);
    const all = collect({ level: "debug", timestamps: false });
    all.log.debug("d");
    expect(all.lines).toEqual(["debug d\n"]);
  });

  test("writes every one of equal messages that follow each other", () => {
    const { log, lines } = collect();
    for (let i = 0; i < 20; i++) log.warn("again");
    expect(lines).toHaveLength(20);
  });

  test("lets no control character through, so that names from the network cannot forge lines", () => {
    const { log, lines } = collect({ timestamps: false });
    log.info("a\nb\u001B[2J", { user: "x\nerror forged", reason: 'say "no"', empty: "" });
    expect(lines).toEqual(['info  a\\nb\\u001b[2J user="x\\nerror forged" reason="say \\"no\\"" empty=""\n']);
  });

  test("writes JSON whose level and message no field can replace", () => {
    const { log, lines } = collect({ format: "json" });
    log.error("Failed", { level: "info", message: "fine", code: 5 });
    expect(JSON.parse(lines[0]!)).toEqual({
      time: "2026-01-02T03:04:05.678Z",
      level: "error",
      message: "Failed",
      code: 5,
    });
  });

  test("colours the level only when asked to", () => {
    const { log, lines } = collect({ colors: true, timestamps: false });
    log.error("x");
    expect(lines[0]).toContain("\u001B[31m");
  });
});
