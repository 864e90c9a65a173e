import { describe, expect, test } from "bun:test";
import { parseServerStatus } from "../../lib/admin_message.ts";
import { DROP_REASONS } from "../../lib/errors.ts";
import { auditLineCounts, EventCounts } from "../../lib/event_counts.ts";
import { renderMetrics } from "../../lib/metrics.ts";
import type { ServerStatus, SessionStatus } from "../../lib/status.ts";

const session: SessionStatus = {
  id: 7,
  user: "ann-user",
  endpoint: "192.0.2.2:4000",
  addresses: ["10.8.0.2", "fd00::2"],
  connectedAt: 1,
  lastSeenAt: 2,
  transport: "udp",
  state: "connected",
  epoch: 1,
  rttMs: 2.345,
  lossPercent: 0,
  recordLimit: 60_000,
  datagramBytes: 1452,
  pathMtu: 1480,
  rxBytes: 1536,
  txBytes: 1,
  rxPackets: 3,
  txPackets: 4,
};

/** What an older server tells. */
const old: ServerStatus = {
  tun: "omail0",
  address: ":51820",
  uptimeSeconds: 3661,
  sessions: [session, { ...session, id: 8, transport: "tcp", state: "reconnecting" }],
  gone: [{ id: 9, user: "gone-user", addresses: ["10.8.0.3"], endedAt: 3, reason: "free text" }],
  totals: {
    rxBytes: 2 ** 52,
    txBytes: 17,
    rxPackets: 3,
    txPackets: 4,
    drops: { "record-replayed": 2 },
  },
};

function full(): ServerStatus {
  const events = new EventCounts();
  events.logins.add("succeeded");
  events.logins.add("wrong-credentials");
  events.loginMethods.add("password+certificate");
  events.ends.add("kicked");
  events.bans.add("user");
  const written = auditLineCounts();
  written.add("login");
  return {
    ...old,
    startedAt: 1_700_000_000_500,
    build: { version: "0.1.0", commit: "abc" },
    bans: [
      { subject: "address", value: "198.51.100.7", secondsLeft: 9 },
      { subject: "user", value: "banned-user", secondsLeft: 9 },
    ],
    refusals: { "tls-failed": 3, "too-slow": 0, "log-in-refused": 1 },
    events: events.snapshot(),
    audit: { written: written.snapshot(), waiting: 2, lost: 5, failing: true },
  };
}

const linesOf = async (status: ServerStatus) => (await renderMetrics(status)).split("\n");

describe("renderMetrics()", () => {
  test("gives what the status tells, in base units", async () => {
    const lines = await linesOf(full());
    for (const line of [
      'omail_build_info{version="0.1.0",commit="abc"} 1',
      "omail_start_time_seconds 1700000000.5",
      'omail_sessions{state="connected",transport="udp"} 1',
      'omail_sessions{state="reconnecting",transport="tcp"} 1',
      'omail_sessions{state="silent",transport="udp"} 0',
      "omail_received_bytes_total 4503599627370496",
      "omail_sent_bytes_total 17",
      "omail_received_packets_total 3",
      "omail_sent_packets_total 4",
      'omail_dropped_packets_total{reason="record-replayed"} 2',
      'omail_connections_refused_total{reason="tls-failed"} 3',
      'omail_bans_active{kind="address"} 1',
      'omail_bans_active{kind="user"} 1',
      'omail_bans_total{kind="address"} 0',
      'omail_bans_total{kind="user"} 1',
      'omail_logins_total{result="succeeded"} 1',
      'omail_logins_total{result="wrong-credentials"} 1',
      'omail_logins_succeeded_total{method="password+certificate"} 1',
      'omail_sessions_ended_total{reason="kicked"} 1',
      'omail_audit_events_written_total{type="login"} 1',
      'omail_audit_events_written_total{type="ban"} 0',
      "omail_audit_events_lost_total 5",
      "omail_audit_events_waiting 2",
      "omail_audit_log_failing 1",
    ])
      expect(lines).toContain(line);
    expect(lines.filter((line) => line.includes("log-in-refused"))).toEqual([]);
    expect(lines.at(-1)).toBe("");
  });

  test("is what Prometheus reads: help and type before the samples, no sample twice, _total for counters", async () => {
    const types = new Map<string, string>();
    const samples: string[] = [];
    let announced = "";
    for (const line of await linesOf(full())) {
      if (line === "") continue;
      const [, kind, name, rest] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
      if (kind === "HELP") announced = name!;
      else if (kind === "TYPE") types.set(name!, rest!);
      else {
        const form = /^([a-z_]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [0-9.]+$/;
        expect(line).toMatch(form);
        expect(form.exec(line)?.[1]).toBe(announced);
        expect(types.has(announced)).toBeTrue();
        samples.push(line.slice(0, line.lastIndexOf(" ")));
      }
    }
    expect(new Set(samples).size).toBe(samples.length);
    for (const [name, type] of types)
      expect([name, type === "counter"]).toEqual([name, name.endsWith("_total")]);
  });

  test("names no user, address or session, and no reason in free text", async () => {
    const text = await renderMetrics(full());
    for (const told of [
      "ann-user",
      "banned-user",
      "gone-user",
      "192.0.2.2",
      "198.51.100.7",
      "10.8.0",
      "free text",
    ])
      expect(text).not.toContain(told);
  });

  test("has a 0 for each reason that did not occur, so that a first occurrence is an increase", async () => {
    const lines = await linesOf(old);
    for (const reason of DROP_REASONS)
      expect(lines).toContain(
        `omail_dropped_packets_total{reason="${reason}"} ${reason === "record-replayed" ? 2 : 0}`,
      );
  });

  test("leaves out what an older server does not tell, instead of saying 0", async () => {
    const text = await renderMetrics(old);
    for (const name of [
      "logins",
      "bans",
      "audit",
      "build",
      "start_time",
      "connections_refused",
      "sessions_ended",
    ])
      expect(text).not.toContain(`omail_${name}`);
    expect(text).toContain("omail_received_packets_total 3");
  });

  test("escapes what a label may hold", async () => {
    const build = { version: '1"2\\3\n4', commit: "c" };
    expect(await linesOf({ ...old, build })).toContain(
      'omail_build_info{version="1\\"2\\\\3\\n4",commit="c"} 1',
    );
  });

  test("gives the same for the status that went through the control socket", async () => {
    const read = parseServerStatus(JSON.parse(JSON.stringify(full())));
    expect(await renderMetrics(read)).toBe(await renderMetrics(full()));
  });
});
