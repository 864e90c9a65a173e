import { describe, expect, test } from "bun:test";
import { formatBytes, formatClientStatus, formatServerStatus, formatSpan } from "../../cli/status_text.ts";
import type { ClientStatus, ServerStatus } from "../../lib/status.ts";

const NOW = 1_700_000_000_000;
const path = {
  epoch: 1,
  rttMs: 2.345,
  lossPercent: 0,
  recordLimit: 60_000,
  datagramBytes: 1452,
  pathMtu: 1480,
};

const server: ServerStatus = {
  tun: "omail0",
  address: ":51820",
  uptimeSeconds: 3661,
  sessions: [
    {
      ...path,
      id: 7,
      user: "ann",
      endpoint: "192.0.2.2:4000",
      addresses: ["10.8.0.2", "fd00::2"],
      connectedAt: NOW - 60_000,
      lastSeenAt: NOW - 30_000,
      transport: "udp",
      state: "silent",
      rxBytes: 1536,
      txBytes: 5 * 1024 ** 3,
      rxPackets: 3,
      txPackets: 4,
    },
  ],
  gone: [
    { id: 8, user: "bob", addresses: ["10.8.0.3"], endedAt: NOW - 5_000, reason: "The client left: bye" },
    { id: 9, user: "eve", addresses: ["10.8.0.4"], endedAt: NOW - 7_200_000, reason: "long ago" },
  ],
  totals: {
    rxBytes: 1536,
    txBytes: 0,
    rxPackets: 3,
    txPackets: 0,
    drops: { "record-replayed": 2, "no-key": 0 },
  },
};

const client: ClientStatus = {
  ...path,
  state: "connected",
  server: "vpn.example:51820",
  transport: "udp",
  reason: null,
  addresses: ["10.8.0.2"],
  connectedAt: NOW - 5000,
  lastSeenAt: NOW - 500,
  sessionId: 7,
  rxBytes: 0,
  txBytes: 0,
  rxPackets: 0,
  txPackets: 0,
  drops: {},
};

describe("formatServerStatus()", () => {
  test("prints aligned rows, IEC units and remarks", () => {
    expect(formatServerStatus(server, NOW)).toBe(`interface  omail0
address    :51820
up         1 h 1 min
sessions   1
received   1.50 KiB (3 packets)
sent       0 B (0 packets)

id  user  state   path  endpoint        addresses         last heard  received  sent      round trip  loss  path MTU
7   ann   silent  udp   192.0.2.2:4000  10.8.0.2,fd00::2  30 s ago    1.50 KiB  5.00 GiB  2.35 ms     0 %   1480 B

# Session 7 (ann) is silent for 30 s
# Session 8 (bob) ended 5 s ago: The client left: bye
# Dropped: record-replayed 2
`);
  });

  test("prints no table without sessions", () => {
    const idle = { ...server, sessions: [], gone: [], totals: { ...server.totals, drops: {} } };
    expect(formatServerStatus(idle, NOW)).toEndWith("sent       0 B (0 packets)\n");
  });
});

describe("formatClientStatus()", () => {
  test("prints the state and no remark when all is well", () => {
    const text = formatClientStatus(client, NOW);
    expect(text).toContain("state       connected\n");
    expect(text).toContain("connected   5 s ago\n");
    expect(text).toContain("last heard  now\n");
    expect(text).toContain("path MTU    1480 B\n");
    expect(text).not.toContain("#");
  });

  test("says what is wrong", () => {
    const lost = {
      ...client,
      state: "reconnecting",
      reason: "the server does not answer",
      lossPercent: 100 / 33,
      connectedAt: null,
      rttMs: null,
      pathMtu: null,
    } as const;
    const text = formatClientStatus(lost, NOW);
    expect(text).toContain("round trip  unknown\n");
    expect(text).toContain("loss        3 %\n");
    expect(formatClientStatus({ ...lost, lossPercent: 100 / 156 }, NOW)).toContain("loss        0.6 %\n");
    expect(text).toContain("path MTU    unknown\n");
    expect(text).toContain("# The connection was lost");
    expect(text).toContain("# Not connected because: the server does not answer\n");
    expect(text).toContain("# The path loses 3 % of the records");
  });
});

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1.00 KiB"],
  [10.5 * 1024, "10.5 KiB"],
  [1024 ** 2 * 999, "999 MiB"],
])("formatBytes(%p) is %p", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [-5, "0 s"],
  [999, "0 s"],
  [61_000, "1 min 1 s"],
  [3_600_000, "1 h"],
  [90_000_000, "1 d 1 h"],
])("formatSpan(%p) is %p", (milliseconds, text) => {
  expect(formatSpan(milliseconds)).toBe(text);
});
