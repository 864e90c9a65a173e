/** Metrics: what happens to the real executables is in what Prometheus reads, and nothing of who it happened to. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { type Network, SERVER_ADDRESS } from "./harness/network.ts";
import {
  executable,
  INNER_SERVER,
  type OmailProgram,
  runToEnd,
  type ServerStatus,
  SPLIT_TUNNEL,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";

type Samples = Readonly<Record<string, number>>;

/** Failures of an address that shut it out (`MAX_ADDRESS_FAILURES`). */
const FAILURES = 10;

/** Text and samples of `metrics`, by name with labels. */
async function scrape(server: OmailProgram<ServerStatus>): Promise<{ text: string; samples: Samples }> {
  const { stdout, stderr, status } = await server.control("metrics");
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  const lines = stdout.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  const samples = lines.map((line) => {
    const space = line.lastIndexOf(" ");
    return [line.slice(0, space), Number(line.slice(space + 1))] as const;
  });
  return { text: stdout, samples: Object.fromEntries(samples) };
}

const refusedLogin = (network: Network, client: number) =>
  runToEnd(network, network.client(client), "client", {
    args: ["--server", SERVER_ADDRESS, "--split-tunnel", SPLIT_TUNNEL, "--user", "eve", "--tun", "omail9"],
    password: "hunter2 hunter2",
  });

networkTest(
  "metrics: log-ins, wrong passwords, a ban, a kick, the audit log and traffic are counted",
  { clients: 2, limitSeconds: 90 },
  async (network) => {
    const startSeconds = Date.now() / 1000;
    const server = await startServer(network);
    const first = await scrape(server);
    expect(first.samples).toMatchObject({
      'omail_logins_total{result="succeeded"}': 0,
      'omail_logins_total{result="wrong-credentials"}': 0,
      'omail_bans_total{kind="address"}': 0,
      omail_received_packets_total: 0,
    });
    expect(first.samples["omail_start_time_seconds"]).toBeWithin(startSeconds - 1, Date.now() / 1000 + 1);
    const { stdout: version } = await server.control("--version");
    const build = /omail_build_info\{version="(.+)",commit="(.+)"\} 1/.exec(first.text) ?? [];
    expect(version).toContain(`${build[1]} (${build[2]})`);

    const client = await startClient(network);
    await network.client(0).run(["ping", "-c", "3", "-i", "0.2", INNER_SERVER]);
    for (let i = 0; i < FAILURES; i++) expect((await refusedLogin(network, 1)).status).toBe(4);
    expect((await refusedLogin(network, 1)).stderr).toContain("Too many failed log-ins");
    const second = await until("the audit log", timeoutSeconds(5), async () => {
      const scraped = await scrape(server);
      return scraped.samples["omail_audit_events_waiting"] === 0 ? scraped : undefined;
    });
    expect(second.samples).toMatchObject({
      'omail_logins_total{result="succeeded"}': 1,
      'omail_logins_total{result="wrong-credentials"}': FAILURES,
      'omail_logins_total{result="shut-out"}': 1,
      'omail_logins_succeeded_total{method="password"}': 1,
      'omail_bans_total{kind="address"}': 1,
      'omail_bans_active{kind="address"}': 1,
      'omail_bans_active{kind="user"}': 0,
      'omail_sessions{state="connected",transport="udp"}': 1,
      'omail_audit_events_written_total{type="started"}': 1,
      'omail_audit_events_written_total{type="login"}': 1,
      'omail_audit_events_written_total{type="refused"}': FAILURES,
      'omail_audit_events_written_total{type="ban"}': 1,
      omail_audit_events_lost_total: 0,
      omail_audit_log_failing: 0,
    });
    expect(second.samples["omail_received_packets_total"]).toBeGreaterThanOrEqual(3);
    expect(second.samples["omail_received_bytes_total"]).toBeGreaterThanOrEqual(3 * 84);
    const { addresses, endpoint } = (await server.status()).sessions[0]!;
    const outer = endpoint!.slice(0, endpoint!.lastIndexOf(":"));
    for (const told of ['"eve"', '"default"', outer, ...addresses]) expect(second.text).not.toContain(told);

    expect((await server.control("kick", "default")).status).toBe(0);
    expect(await client.program.wait(timeoutSeconds(10))).toBe(4);
    const third = await scrape(server);
    expect(third.samples).toMatchObject({
      'omail_sessions_ended_total{reason="kicked"}': 1,
      'omail_sessions{state="connected",transport="udp"}': 0,
    });
    expect(third.samples["omail_received_packets_total"]).toBeGreaterThanOrEqual(3);
    await server.stop();
    // what a scraper writes into its file must not look like a server without events
    expect(await server.control("metrics")).toMatchObject({ status: 3, stdout: "" });
    const help = await network.server.tryRun([executable("server"), "--help"]);
    expect(help.stdout).toContain("metrics");
  },
);
