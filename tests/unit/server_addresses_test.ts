import { describe, expect, test } from "bun:test";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { HostPort } from "../../lib/address.ts";
import { OmailError } from "../../lib/errors.ts";
import { type ResolveServer, ServerAddresses } from "../../lib/server_addresses.ts";
import { memoryLog } from "../support/memory_log.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratch = scratchDirectories();
const SERVER: HostPort = { host: "vpn.example", port: 443 };

const answering =
  (...hosts: readonly string[]): ResolveServer =>
  async ({ port }) =>
    hosts.map((host) => ({ host, port }));
const failing: ResolveServer = () => Promise.reject(new OmailError('Cannot resolve "vpn.example"'));

describe("ServerAddresses", () => {
  test("when the resolver is out of reach, a later run has the addresses of last time", async () => {
    const directory = scratch();
    await new ServerAddresses(directory, answering("192.0.2.1", "2001:db8::1"), memoryLog().log).resolve(
      SERVER,
    );
    const later = new ServerAddresses(directory, failing, memoryLog().log);
    expect(await later.resolve({ ...SERVER, port: 8443 })).toEqual([
      { host: "192.0.2.1", port: 8443 },
      { host: "2001:db8::1", port: 8443 },
    ]);
    expect(statSync(join(directory, "server_addresses.json")).mode & 0o777).toBe(0o600);
  });

  test("a resolver that does not answer is not waited for where there are addresses of last time", async () => {
    const directory = scratch();
    await new ServerAddresses(directory, answering("192.0.2.1"), memoryLog().log).resolve(SERVER);
    const silent: ResolveServer = () => new Promise(() => undefined);
    const startMs = performance.now();
    const found = await new ServerAddresses(directory, silent, memoryLog().log).resolve(SERVER);
    expect(found).toEqual([{ host: "192.0.2.1", port: 443 }]);
    expect(performance.now() - startMs).toBeGreaterThan(1_000);
  });

  test("fresh addresses win", async () => {
    const directory = scratch();
    await new ServerAddresses(directory, answering("192.0.2.1"), memoryLog().log).resolve(SERVER);
    const later = new ServerAddresses(directory, answering("192.0.2.9"), memoryLog().log);
    expect(await later.resolve(SERVER)).toEqual([{ host: "192.0.2.9", port: 443 }]);
  });

  test("a name that never resolved is the resolver's error; a literal needs none", async () => {
    const addresses = new ServerAddresses(scratch(), failing, memoryLog().log);
    await expect(addresses.resolve(SERVER)).rejects.toThrow('"vpn.example"');
    expect(await addresses.resolve({ host: "192.0.2.7", port: 1 })).toEqual([{ host: "192.0.2.7", port: 1 }]);
  });

  test("a damaged file costs a warning", async () => {
    const directory = scratch();
    writeFileSync(join(directory, "server_addresses.json"), '{"vpn.example":["not an address"]}');
    const { log, lines } = memoryLog();
    const addresses = new ServerAddresses(directory, failing, log);
    expect(lines.map(({ level }) => level)).toEqual(["warn"]);
    await expect(addresses.resolve(SERVER)).rejects.toThrow();
  });

  test("a directory that cannot be written costs a warning", async () => {
    const { log, lines } = memoryLog();
    const found = await new ServerAddresses("/no/such/directory", answering("192.0.2.1"), log).resolve(
      SERVER,
    );
    expect(found).toHaveLength(1);
    expect(lines.map(({ level }) => level)).toEqual(["warn"]);
  });
});
