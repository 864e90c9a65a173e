/** `check` of both programs: a good network, no server, a port in use, a leak; figures, advice and exit status. */

import { expect } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import type { CommandResult } from "./harness/command.ts";
import { machineState } from "./harness/machine_state.ts";
import { type Machine, SERVER_ADDRESS } from "./harness/network.ts";
import { executable, runToEnd, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";

interface Finding {
  readonly name: string;
  readonly level: "ok" | "unknown" | "warning" | "failure";
  readonly figure: string;
  readonly value?: number;
  readonly advice: string;
}

/** The findings of `check --json` by name; of several with one name the last. */
function findings(result: CommandResult): ReadonlyMap<string, Finding> {
  const report = JSON.parse(result.stdout) as { findings: readonly Finding[] };
  return new Map(report.findings.map((found) => [found.name, found]));
}

function levels(result: CommandResult): Readonly<Record<string, string>> {
  return Object.fromEntries([...findings(result)].map(([name, { level }]) => [name, level]));
}

/** Another program that has a port. */
async function occupy(machine: Machine, protocol: "tcp" | "udp"): Promise<void> {
  const script =
    protocol === "tcp"
      ? 'require("node:net").createServer().listen(51820, "0.0.0.0", () => console.log("listening"))'
      : 'const s = require("node:dgram").createSocket("udp4"); s.bind(51820, () => console.log("listening"))';
  const program = machine.start(`a program with ${protocol} port 51820`, [process.execPath, "-e", script]);
  await until("the port to be taken", timeoutSeconds(5), async () =>
    program.output.includes("listening") ? true : undefined,
  );
}

/** Runs `body` while the machine's resolver is `address`. */
async function withResolver(machine: Machine, address: string, body: () => Promise<void>): Promise<void> {
  const directory = `/etc/netns/${machine.namespace}`;
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "resolv.conf"), `nameserver ${address}\n`);
  try {
    await body();
  } finally {
    rmSync(directory, { recursive: true });
  }
}

networkTest("check: a good tunnel has a figure for everything, and status 0", {}, async (network) => {
  const server = await startServer(network, { args: ["--nat", "--push-dns", "10.8.0.1"] });
  const client = await startClient(network, 0, { fullTunnel: true, args: ["--no-dns"] });
  const before = await machineState(network.client(0));

  const ofClient = await client.control("check", "--json");
  expect(ofClient.status).toBe(0);
  const expected = [
    "privileges",
    "TUN device",
    "offloads",
    "tunnel",
    "TCP",
    "certificate",
    "UDP",
    "RTT",
    "loss",
  ];
  for (const name of [...expected, "path MTU", "throughput", "route leak", "route to server", "clock skew"]) {
    expect([name, findings(ofClient).get(name)?.level]).toEqual([name, "ok"]);
  }
  expect(findings(ofClient).get("path MTU")?.value).toBeGreaterThanOrEqual(1280);
  expect(findings(ofClient).get("route leak")?.value).toBe(0);
  expect(Math.abs(findings(ofClient).get("clock skew")?.value ?? 99)).toBeLessThan(1);
  expect(findings(ofClient).get("throughput")?.value).toBeGreaterThan(1);
  // it leaves nothing behind
  expect(await machineState(network.client(0))).toBe(before);

  const ofServer = await server.control("check", "--json");
  expect(ofServer.status).toBe(0);
  expect(new Set(Object.values(levels(ofServer)))).toEqual(new Set(["ok"]));
  expect(findings(ofServer).get("certificate")?.value).toBeGreaterThan(3000);

  const text = await client.control("check");
  console.log(text.stdout);
  expect(text.stdout).toMatch(/^ok {4}route leak +all of 5 destinations by omail0$/m);
});

networkTest("check: data that goes by TCP, a split tunnel", {}, async (network) => {
  await startServer(network);
  const client = await startClient(network, 0, { args: ["--transport", "tcp"] });
  const result = await client.control("check", "--json");
  expect(result.status).toBe(0);
  expect(findings(result).get("UDP")).toMatchObject({ level: "warning" });
  expect(findings(result).get("UDP")?.figure).toContain("data goes by tcp");
  expect(findings(result).get("route leak")?.figure).toContain("a split tunnel");
});

networkTest("check: no server, a name that is none, a narrow path", {}, async (network) => {
  const client = network.client(0);
  const server = `${SERVER_ADDRESS}:51820`;
  const dead = await runToEnd(network, client, "client", { args: ["check", "--server", server, "--json"] });
  expect(dead.status).toBe(1);
  expect(levels(dead)).toMatchObject({ tunnel: "unknown", TCP: "failure", UDP: "failure" });
  expect(findings(dead).get("TCP")?.figure).toContain(`${server}: no TCP connection: ECONNREFUSED`);
  expect(dead.stderr).toBe("error: The check failed: TCP, UDP\n");

  // nobody listens there, so that the name fails at once
  await withResolver(client, "127.0.0.1", async () => {
    const nobody = ["check", "--server", "no.such.host.invalid", "--json"];
    const unnamed = await runToEnd(network, client, "client", { args: nobody });
    expect(unnamed.status).toBe(1);
    expect(findings(unnamed).get("TCP")?.figure).toContain('Cannot resolve "no.such.host.invalid"');
  });

  await startServer(network);
  await network.internet.run(["ip", "link", "set", "srv", "mtu", "1400"]);
  const narrow = await runToEnd(network, client, "client", { args: ["check", "--server", server, "--json"] });
  expect(narrow.status).toBe(0);
  expect(levels(narrow)).toMatchObject({
    TCP: "ok",
    certificate: "ok",
    RTT: "ok",
    loss: "ok",
    UDP: "unknown",
  });
  expect(findings(narrow).get("path MTU")).toMatchObject({ level: "warning", value: 1400 });
  expect(findings(narrow).get("path MTU")?.advice).toContain("--mtu 1340");
});

networkTest("check: traffic and DNS that leave outside the tunnel", {}, async (network) => {
  const machine = network.client(0);
  await withResolver(machine, "192.0.2.53", async () => {
    await startServer(network, { args: ["--nat"] });
    const client = await startClient(network, 0, { fullTunnel: true, args: ["--kill-switch"] });
    const check = async (selector: string) => {
      await machine.run(["ip", "rule", "add", "pref", "100", ...selector.split(" ")]);
      const result = await client.control("check", "--json");
      await machine.run(["ip", "rule", "del", "pref", "100"]);
      return result;
    };
    const everything = await check("lookup main");
    expect(everything.status).toBe(1);
    expect(levels(everything)).toMatchObject({ "route leak": "failure", "DNS leak": "failure" });
    expect(findings(everything).get("route leak")).toMatchObject({ value: 3 });
    expect(findings(everything).get("route leak")?.figure).toContain("1.1.1.1 by wan");
    expect(everything.stderr).toBe("error: The check failed: DNS leak, route leak\n");

    const queries = await check("dport 53 lookup main");
    expect(levels(queries)).toMatchObject({ "route leak": "ok", "DNS leak": "failure" });
    expect(findings(queries).get("DNS leak")?.figure).toContain("192.0.2.53 by wan");

    const mended = await client.control("check", "--json");
    expect(mended.status).toBe(0);
    // the kill switch lets no ping to the server out beside the tunnel
    expect(levels(mended)).toMatchObject({ TCP: "ok", UDP: "ok", "route leak": "ok", "DNS leak": "ok" });
    expect(levels(mended)["clock skew"]).toBe("ok");
  });
});

networkTest(
  "check: ports in use, forwarding switched off, a certificate that is none",
  {},
  async (network) => {
    const machine = network.server;
    await occupy(machine, "tcp");
    await occupy(machine, "udp");
    const busy = await runToEnd(network, machine, "server", { args: ["check", "--json"] });
    expect(busy.status).toBe(1);
    expect(levels(busy)).toMatchObject({
      "TCP port": "failure",
      "UDP port": "failure",
      forwarding: "warning",
    });
    for (const name of ["TCP port", "UDP port"]) {
      expect(findings(busy).get(name)?.figure).toMatch(/^:51820: in use by bun\S* \(process \d+\)$/);
    }
    const other = await runToEnd(network, machine, "server", {
      args: ["check", "--address", ":51821", "--json"],
    });
    expect(other.status).toBe(0);
    expect(levels(other)).toMatchObject({ "TCP port": "ok", "UDP port": "ok", certificate: "ok", NAT: "ok" });

    const certificate = join(network.directory, "no.pem");
    await Bun.write(certificate, "nonsense");
    const args = ["check", "--address", ":51821", "--cert", certificate, "--key", certificate, "--json"];
    const wrong = await runToEnd(network, machine, "server", { args });
    expect(wrong.status).toBe(1);
    expect(findings(wrong).get("certificate")?.advice).toContain("Cannot read the certificate");

    const server = await startServer(network, { args: ["--nat", "--address", ":51821"] });
    await machine.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward"]);
    await machine.nft(
      "table inet strict {\n chain in { type filter hook input priority 0; policy drop; accept; }\n}\n",
    );
    const broken = await server.control("check", "--nat", "--json");
    expect(broken.status).toBe(1);
    expect(levels(broken)).toMatchObject({
      forwarding: "failure",
      firewall: "warning",
      NAT: "ok",
      "TCP port": "ok",
    });
  },
);

networkTest("check: without privileges it says so", {}, async (network) => {
  const wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"];
  for (const role of ["client", "server"] as const) {
    const result = await network.server.tryRun([
      ...wrapper,
      executable(role),
      "check",
      "--json",
      "--state-dir",
      "/proc/none",
    ]);
    expect(result.stderr).toContain("error: ");
    expect(result.status).not.toBe(0);
  }
  const args = ["check", "--json", "--state-dir", network.directory];
  const client = await runToEnd(network, network.server, "client", { args, wrapper });
  expect(client.status).toBe(1);
  expect(levels(client)).toMatchObject({
    privileges: "failure",
    "state directory": "failure",
    "TUN device": "failure",
  });
});
