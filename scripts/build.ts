/**
 * Builds the two executables: for this machine at the root of the tree, or with `--all` for every platform to `dist/`.
 *
 * The executables load neither `.env` nor `bunfig.toml` from the directory they are started in, and cannot turn text
 * into code, so that nothing there can change what they do.
 */

import { $ } from "bun";
import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "..");
const DIST = join(ROOT, "dist");
const CACHE = join(ROOT, "node_modules/.cache/bun-targets");
const PROGRAMS = ["server", "client"] as const;
/** A second entry point, under the name that the programs start it by. */
const WORKER = "./lib/data_worker.ts";

/** A platform that we build for, and the npm package with Bun for it. */
interface Target {
  readonly name: string;
  readonly package: string;
}

const TARGETS: readonly Target[] = [
  { name: "linux-x64", package: "@oven/bun-linux-x64" },
  { name: "linux-arm64", package: "@oven/bun-linux-aarch64" },
  { name: "linux-x64-musl", package: "@oven/bun-linux-x64-musl" },
  { name: "linux-arm64-musl", package: "@oven/bun-linux-aarch64-musl" },
  { name: "darwin-x64", package: "@oven/bun-darwin-x64" },
  { name: "darwin-arm64", package: "@oven/bun-darwin-aarch64" },
];

/** Another platform's runtime, to become part of the executable. */
interface Runtime {
  /** What Bun calls the platform; tells it the format of the file. */
  readonly target: string;
  readonly executable: string;
}

/** Builds one executable, with the running Bun inside or another. */
async function build(program: string, outfile: string, commit: string, runtime?: Runtime): Promise<void> {
  const cross =
    runtime === undefined
      ? []
      : [`--target=${runtime.target}`, `--compile-executable-path=${runtime.executable}`];
  await $`${process.execPath} build --compile --minify --bytecode --format=esm \
    --no-compile-autoload-dotenv --no-compile-autoload-bunfig \
    --compile-exec-argv=--disallow-code-generation-from-strings=strict \
    --define OMAIL_COMMIT=${JSON.stringify(commit)} ${cross} \
    ./cli/${program}.ts ${WORKER} --outfile ${outfile}`
    .cwd(ROOT)
    .quiet();
}

/** Abbreviated commit, with a plus sign when files differ from it. */
async function gitCommit(): Promise<string> {
  // in a substitution, where the shell does not take the star for a file name pattern
  const anyTag = "--exclude=*";
  const result = await $`git describe --always --dirty=+ --abbrev=10 ${anyTag}`.cwd(ROOT).nothrow().quiet();
  return result.exitCode === 0 ? result.text().trim() : "unknown";
}

/** Bun for another platform, of the running version; fetched once through npm. */
async function fetchBun(target: Target): Promise<Runtime> {
  const directory = join(CACHE, Bun.version, target.name);
  const executable = join(directory, "package/bin/bun");
  if (!existsSync(executable)) {
    mkdirSync(directory, { recursive: true });
    console.log(`Fetching ${target.package}@${Bun.version}`);
    const archive = (
      await $`npm pack --silent ${target.package}@${Bun.version}`.cwd(directory).text()
    ).trim();
    await $`tar -xzf ${archive}`.cwd(directory);
    rmSync(join(directory, archive));
    chmodSync(executable, 0o755);
  }
  return { target: `bun-${target.name}`, executable };
}

async function buildHere(commit: string): Promise<void> {
  for (const program of PROGRAMS) {
    const outfile = join(ROOT, `omail-${program}`);
    await build(program, outfile, commit);
    console.log(`Built ${outfile}`);
  }
}

async function buildAll(commit: string): Promise<void> {
  rmSync(DIST, { recursive: true, force: true });
  mkdirSync(DIST);
  const sums: string[] = [];
  for (const target of TARGETS) {
    const runtime = await fetchBun(target);
    for (const program of PROGRAMS) {
      const name = `omail-${program}-${target.name}`;
      await build(program, join(DIST, name), commit, runtime);
      const hash = new Bun.CryptoHasher("sha256")
        .update(await Bun.file(join(DIST, name)).bytes())
        .digest("hex");
      sums.push(`${hash}  ${name}\n`);
      console.log(`Built dist/${name}`);
    }
  }
  writeFileSync(join(DIST, "SHA256SUMS"), sums.join(""));
}

const unknown = process.argv.slice(2).find((argument) => argument !== "--all");
if (unknown !== undefined) {
  console.error(`error: Unknown argument "${unknown}": expected --all or nothing`);
  process.exit(2);
}
const commit = await gitCommit();
await (process.argv.includes("--all") ? buildAll(commit) : buildHere(commit));
