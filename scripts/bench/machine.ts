/** What a result was measured on and with: date, processor, kernel, versions, command. */

import { cpus, release, totalmem } from "node:os";
import type { Peer } from "./tunnel.ts";

/** Goes with every result. */
export interface Circumstances {
  /** ISO 8601. */
  readonly date: string;
  readonly command: string;
  readonly cpu: string;
  readonly memory: string;
  readonly kernel: string;
  readonly versions: Readonly<Record<string, string>>;
}

/** First line of what a program says about its version. */
function firstLine(command: readonly string[]): string {
  const { stdout } = Bun.spawnSync([...command], { stdin: "ignore", stderr: "ignore" });
  return stdout.toString().split("\n", 1)[0]?.trim() ?? "";
}

/** An argument as it can be typed into a shell. */
function shellWord(text: string): string {
  return /^[\w./:=,-]+$/.test(text) ? text : Bun.$.escape(text);
}

/** The circumstances of this run. @param script name of the program in package.json */
export function circumstances(
  script: string,
  args: readonly string[],
  peers: readonly Peer[],
): Circumstances {
  const versions: Record<string, string> = { bun: Bun.version };
  if (Bun.which("iperf3") !== null) versions["iperf3"] = firstLine(["iperf3", "--version"]);
  for (const { name, version } of peers) {
    if (version !== null && !Object.values(versions).includes(firstLine(version)))
      versions[name] = firstLine(version);
  }
  return {
    date: new Date().toISOString(),
    command: ["bun", "run", script, ...args].map(shellWord).join(" "),
    cpu: `${cpus()[0]?.model.trim() ?? "unknown"}, ${cpus().length} cores`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: release(),
    versions,
  };
}

/** What of a program's words about itself tells its version. */
function shortVersion(text: string): string {
  return /\S*\d[\w.+()\s-]{0,40}/.exec(text)?.[0].trim() ?? text;
}

/** As a Markdown list. */
export function circumstancesText({ date, command, cpu, memory, kernel, versions }: Circumstances): string {
  const shown = Object.entries(versions).map(([name, version]) => `${name} ${shortVersion(version)}`);
  return [
    `- ${date.slice(0, 10)}, ${cpu}, ${memory} of memory, Linux ${kernel}`,
    `- ${shown.join("; ")}`,
    `- \`${command}\``,
  ].join("\n");
}
