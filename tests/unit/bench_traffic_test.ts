import { describe, expect, test } from "bun:test";
import { OmailError } from "../../lib/errors.ts";
import { parsePing, parseTcpReport, parseUdpReport, summarizePing } from "../../scripts/bench/traffic.ts";

const PING = `PING 10.77.0.2 (10.77.0.2) 56(84) bytes of data.
64 bytes from 10.77.0.2: icmp_seq=1 ttl=64 time=0.125 ms
64 bytes from 10.77.0.2: icmp_seq=2 ttl=64 time=2 ms
64 bytes from 10.77.0.2: icmp_seq=4 ttl=64 time=0.5 ms

--- 10.77.0.2 ping statistics ---
4 packets transmitted, 3 received, 25% packet loss, time 9ms
`;

describe("parsePing()", () => {
  test("reads every round trip", () => {
    expect(parsePing(PING)).toEqual({ sent: 4, timesUs: [125, 2000, 500] });
  });

  test("refuses what is no report", () => {
    expect(() => parsePing("connect: Network is unreachable")).toThrow(OmailError);
  });
});

describe("summarizePing()", () => {
  test("has median, 99th percentile, longest and loss", () => {
    expect(summarizePing(parsePing(PING))).toEqual({ p50Us: 500, p99Us: 2000, maxUs: 2000, lostPercent: 25 });
  });

  test("refuses a run that was mostly lost", () => {
    expect(() => summarizePing({ sent: 3, timesUs: [1] })).toThrow("only 1 of 3 pings were answered");
  });
});

const rate = (value: number) => ({ bits_per_second: value });

describe("parseTcpReport()", () => {
  const intervals = [
    { sum: { bytes: 1e9, end: 1, bits_per_second: 8e9 } },
    { sum: { bytes: 5e8, end: 2, bits_per_second: 4e9 } },
  ];

  test("adds up both ways", () => {
    const end = { sum_sent: { ...rate(5e6), retransmits: 7 }, sum_received: rate(4e6) };
    const report = JSON.stringify({ intervals, end: { ...end, sum_received_bidir_reverse: rate(2e6) } });
    expect(parseTcpReport(report)).toEqual({
      mbps: 6,
      retransmits: 7,
      gigabytes: 1.5,
      series: [
        { seconds: 1, value: 8000 },
        { seconds: 2, value: 4000 },
      ],
    });
    expect(parseTcpReport(JSON.stringify({ intervals, end })).mbps).toBe(4);
  });

  test.each([
    ['{"error": "unable to connect"}', "iperf3 failed: unable to connect"],
    ["{}", "Cannot read iperf3's report"],
    ["no json", "Cannot read iperf3's report: expected JSON"],
  ])("refuses %p", (output, message) => {
    expect(() => parseTcpReport(output)).toThrow(message);
  });
});

describe("parseUdpReport()", () => {
  test("counts what was delivered", () => {
    const sum = { packets: 1000, lost_packets: 250, seconds: 2, jitter_ms: 0.02, bytes: 1e6 };
    expect(parseUdpReport(JSON.stringify({ end: { sum } }))).toEqual({
      packetsPerSecond: 375,
      mbps: 3,
      lostPercent: 25,
      jitterUs: 20,
    });
  });
});
