/**
 * Writes a server's status as metrics in Prometheus' text format.
 *
 * Labels have names from closed lists only, never a user, an address or a session: their number is bounded, and who
 * reads the metrics learns nothing of a person. Import it lazily: the library takes a while to load.
 */

import { Counter, Gauge, Registry } from "prom-client";
import { DROP_REASONS } from "./errors.ts";
import type { AuditStatus, EventStatus } from "./event_counts.ts";
import type { ServerStatus } from "./status.ts";

/** One number of a metric. */
interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** One metric. Names and units follow Prometheus' practice: base units, `_total` for what only grows. */
interface Metric {
  readonly type: "counter" | "gauge";
  readonly name: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

/** What is refused at the log-in is told in more detail by `omail_logins_total`. */
const LOG_IN_REFUSED = "log-in-refused";
const STATES = ["connected", "silent", "reconnecting"] as const;
const TRANSPORTS = ["udp", "tcp"] as const;
const SUBJECTS = ["address", "user"] as const;

/** The metrics of a server. What an older one does not tell is left out. */
export async function renderMetrics(status: ServerStatus): Promise<string> {
  const registry = new Registry();
  for (const { type, name, help, samples } of metricsOf(status)) {
    const labelNames = Object.keys(samples[0]?.labels ?? {});
    const settings = { name, help, labelNames, registers: [registry] };
    const metric = type === "counter" ? new Counter(settings) : new Gauge(settings);
    for (const { labels, value } of samples) metric.inc(labels, value);
  }
  return await registry.metrics();
}

function metricsOf(status: ServerStatus): readonly Metric[] {
  return [
    ...programMetrics(status),
    ...trafficMetrics(status),
    ...refusalMetrics(status),
    ...(status.events === undefined ? [] : eventMetrics(status.events)),
    ...(status.audit === undefined ? [] : auditMetrics(status.audit)),
  ];
}

function programMetrics({ build, startedAt }: ServerStatus): Metric[] {
  const metrics: Metric[] = [];
  if (build !== undefined) {
    const labels = { version: build.version, commit: build.commit };
    metrics.push(gauge("omail_build_info", "Version of the server, as labels.", [{ labels, value: 1 }]));
  }
  if (startedAt !== undefined) {
    const help = "When the server started, in seconds since the Unix epoch.";
    metrics.push(gauge("omail_start_time_seconds", help, one(startedAt / 1000)));
  }
  return metrics;
}

function trafficMetrics({ sessions, totals }: ServerStatus): Metric[] {
  const open = STATES.flatMap((state) =>
    TRANSPORTS.map((transport) => ({
      labels: { state, transport },
      value: sessions.filter((session) => session.state === state && session.transport === transport).length,
    })),
  );
  const none = Object.fromEntries(DROP_REASONS.map((reason) => [reason, 0]));
  return [
    gauge("omail_sessions", "Open sessions, by state and by the path of what is sent.", open),
    counter("omail_received_bytes_total", "Bytes of inner packets from clients.", one(totals.rxBytes)),
    counter("omail_sent_bytes_total", "Bytes of inner packets to clients.", one(totals.txBytes)),
    counter("omail_received_packets_total", "Inner packets from clients.", one(totals.rxPackets)),
    counter("omail_sent_packets_total", "Inner packets to clients.", one(totals.txPackets)),
    counter(
      "omail_dropped_packets_total",
      "Datagrams, records and inner packets that were dropped, by reason.",
      byName("reason", { ...none, ...totals.drops }),
    ),
  ];
}

function refusalMetrics({ refusals, bans }: ServerStatus): Metric[] {
  const metrics: Metric[] = [];
  if (refusals !== undefined) {
    const { [LOG_IN_REFUSED]: _told, ...early } = refusals;
    const help = "Control connections that ended before their log-in was judged, by reason.";
    metrics.push(counter("omail_connections_refused_total", help, byName("reason", early)));
  }
  if (bans !== undefined) {
    const inForce = SUBJECTS.map((kind) => ({
      labels: { kind },
      value: bans.filter(({ subject }) => subject === kind).length,
    }));
    const help = "Addresses and users that are shut out now, after too many failed log-ins.";
    metrics.push(gauge("omail_bans_active", help, inForce));
  }
  return metrics;
}

function eventMetrics({ logins, loginMethods, ends, bans }: EventStatus): Metric[] {
  return [
    counter("omail_bans_total", "Times that an address or a user was shut out.", byName("kind", bans)),
    counter("omail_logins_total", "Log-ins and resumptions, by result.", byName("result", logins)),
    counter(
      "omail_logins_succeeded_total",
      "Log-ins and resumptions that succeeded, by how the client proved who it is.",
      byName("method", loginMethods),
    ),
    counter("omail_sessions_ended_total", "Sessions that ended, by reason.", byName("reason", ends)),
  ];
}

function auditMetrics({ written, waiting, lost, failing }: AuditStatus): Metric[] {
  return [
    counter(
      "omail_audit_events_written_total",
      "Lines that the server wrote to the audit log, by type.",
      byName("type", written),
    ),
    counter("omail_audit_events_lost_total", "Audit events that found no room to wait.", one(lost)),
    gauge("omail_audit_events_waiting", "Audit events that are not on disk yet.", one(waiting)),
    gauge("omail_audit_log_failing", "1 while the audit log cannot be written.", one(failing ? 1 : 0)),
  ];
}

function counter(name: string, help: string, samples: readonly Sample[]): Metric {
  return { type: "counter", name, help, samples };
}

function gauge(name: string, help: string, samples: readonly Sample[]): Metric {
  return { type: "gauge", name, help, samples };
}

function one(value: number): readonly Sample[] {
  return [{ labels: {}, value }];
}

function byName(label: string, counts: Readonly<Record<string, number | undefined>>): readonly Sample[] {
  return Object.entries(counts).map(([name, value]) => ({ labels: { [label]: name }, value: value ?? 0 }));
}
