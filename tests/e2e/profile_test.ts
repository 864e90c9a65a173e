/** Profiles: one file for a client, or a one-time token small enough for a QR code whose key is made on the client. */

import { expect } from "bun:test";
import { chmod, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import type { CommandResult } from "./harness/command.ts";
import { makeAuthority, mustOnServer, onServer } from "./harness/certificates.ts";
import { type Network, SERVER_ADDRESS } from "./harness/network.ts";
import {
  executable,
  INNER_SERVER,
  runToEnd,
  SPLIT_TUNNEL,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { ping } from "./harness/traffic.ts";

/** Runs a client's command on the client machine. */
function onClient(network: Network, args: readonly string[], input = ""): Promise<CommandResult> {
  const stateDir = ["--state-dir", join(network.directory, "imported")];
  return network
    .client(0)
    .tryRun([executable("client"), ...args, ...stateDir], { cwd: network.directory, input });
}

networkTest("profile: one file of mode 0600 is all that a client needs", {}, async (network) => {
  await makeAuthority(network);
  const server = await startServer(network, { args: ["--auth", "cert"] });
  const file = join(network.directory, "alice.omail.json");
  await mustOnServer(network, "profile", "alice", "--out", file, "--split-tunnel", SPLIT_TUNNEL);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  const { server: servers } = JSON.parse(await readFile(file, "utf8")) as { server: string[] };
  expect(servers).toEqual([`${SERVER_ADDRESS}:51820`]);

  const client = await startClient(network, 0, { args: ["--profile", file, "--split-tunnel", SPLIT_TUNNEL] });
  expect((await ping(network.client(0), INNER_SERVER, { count: 5 })).received).toBeGreaterThan(0);
  expect((await server.status()).sessions.map(({ user }) => user)).toEqual(["alice"]);
  await client.stop();

  const content = await readFile(file, "utf8");
  const bad: readonly (readonly [string, string, RegExp])[] = [
    ["truncated", content.slice(0, 700), /it is cut off or damaged, expected JSON/],
    ["garbage", "\u0000\u0001garbage", /it is cut off or damaged/],
    [
      "version",
      content.replace('"omail-profile": 1', '"omail-profile": 9'),
      /it has version "9", expected 1/,
    ],
    ["key", content.replace("split-tunnel", "split-tunel"), /Unknown key "split-tunel"/],
  ];
  for (const [name, text, says] of bad) {
    const path = join(network.directory, `${name}.json`);
    await writeFile(path, text, { mode: 0o600 });
    const { status, stderr } = await runToEnd(network, network.client(0), "client", {
      args: ["--profile", path],
    });
    expect({ name, status, stderr }).toEqual({ name, status: 2, stderr: expect.stringMatching(says) });
    expect(stderr).not.toContain("PRIVATE KEY");
  }
  await chmod(file, 0o644);
  const open = await runToEnd(network, network.client(0), "client", { args: ["--profile", file] });
  expect(open).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/\(mode 0644\), expected mode 0600/),
  });
});

networkTest("enrolment: a token from a QR code brings a certificate once", {}, async (network) => {
  await makeAuthority(network);
  const server = await startServer(network, { args: ["--auth", "cert"] });
  const options = ["--split-tunnel", SPLIT_TUNNEL, "--transport", "tcp"];
  const printed = await mustOnServer(network, "profile", "phone", "--qr", ...options);
  const uri = /^omail:\/\/\S+$/m.exec(printed)?.[0] ?? "";
  expect(uri.length).toBeWithin(50, 400);
  const code = printed.split("\n").filter((line) => /[▀▄█]/.test(line));
  console.log(
    `URI of ${uri.length} characters, QR code of ${code[0]?.length} columns and ${code.length} rows`,
  );
  // it fits a terminal of 80 columns and 24 rows, or nearly
  expect(Math.max(...code.map((line) => line.length))).toBeLessThan(60);
  expect(code.length).toBeLessThan(30);

  const imported = await onClient(network, ["import", "-"], `${uri}\n`);
  expect(imported).toMatchObject({ status: 0, stdout: expect.stringMatching(/Imported "phone" as/) });
  expect((await stat(join(network.directory, "imported/profiles/phone.json"))).mode & 0o777).toBe(0o600);
  const client = await startClient(network, 0, {
    stateDir: "imported",
    args: ["--server", SERVER_ADDRESS, "--profile", "phone"],
  });
  expect((await server.status()).sessions.map(({ user }) => user)).toEqual(["phone"]);
  expect(client.program.output).not.toContain("PRIVATE KEY");
  expect((await client.status()).transport).toBe("tcp");
  await client.stop();

  const again = await onClient(network, ["import", uri]);
  expect(again).toMatchObject({
    status: 4,
    stderr: expect.stringMatching(/Cannot enrol: the token was used before/),
  });
  expect(server.program.output).toMatch(/warn {2}log-in refused user=phone .*the token was used before/);
  expect(server.program.output).toMatch(/client enrolled user=phone serial=[0-9a-f]+/);
  const cut = await onClient(network, ["import", uri.slice(0, 60)]);
  expect(cut).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/the enrolment token: it is cut off or damaged/),
  });
  const expired = (await mustOnServer(network, "profile", "late", "--token", "--expires", "1ms")).trim();
  expect(await onClient(network, ["import", expired])).toMatchObject({
    status: 4,
    stderr: expect.stringMatching(/the token has expired/),
  });
  // the way on from a certificate that runs out: a new token in the place of the old profile
  const short = await mustOnServer(network, "profile", "phone", "--token", "--days", "1", ...options);
  expect((await onClient(network, ["import", "-", "--replace"], short)).status).toBe(0);
  const renewed = await startClient(network, 0, {
    stateDir: "imported",
    args: ["--server", SERVER_ADDRESS, "--profile", "phone"],
  });
  expect(renewed.program.output).toMatch(/warn {2}Our certificate ends on .*one-time token/);
  await renewed.stop();
  expect(await onServer(network, "profile", "../x", "--qr")).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/"..\/x" is a path/),
  });
});
