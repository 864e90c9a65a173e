import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  hasDefaultInto,
  parseClockOffset,
  parseFirstHost,
  parseListener,
  parseMtuHint,
  parseNameServers,
  parsePing,
  parseRouteGet,
} from "../../lib/check_parse.ts";

const PING = `PING 192.0.2.1 (192.0.2.1) 56(84) bytes of data.

--- 192.0.2.1 ping statistics ---
10 packets transmitted, 9 received, 10% packet loss, time 1802ms
rtt min/avg/max/mdev = 0.035/1.250/2.100/0.100 ms
`;
const stamps = (...lines: string[]) =>
  `64 bytes from 10.8.0.1: icmp_seq=1 ttl=64 time=4.00 ms\nTS: \t${lines.join("\n\t")}\n\n\n--- 10.8.0.1 ping statistics ---\n`;

test("parsePing: counts and the mean of iputils' summary", () => {
  expect(parsePing(PING)).toEqual({ sent: 10, received: 9, lossPercent: 10, rttMs: 1.25, elapsedMs: 1802 });
  const errors = PING.replace("9 received, 10%", "0 received, +3 errors, 100%").replace(/rtt.*/, "");
  expect(parsePing(errors)).toMatchObject({ received: 0, lossPercent: 100, rttMs: null });
  expect(parsePing("ping: unknown host")).toBeNull();
});

test("parseMtuHint: of a router and of this machine", () => {
  expect(parseMtuHint("From 192.0.2.1 icmp_seq=1 Frag needed and DF set (mtu = 1400)")).toBe(1400);
  expect(parseMtuHint("From 2001:db8::1 icmp_seq=1 Packet too big: mtu=1300")).toBe(1300);
  expect(parseMtuHint(PING)).toBeNull();
});

test("parseClockOffset: the neighbour's arrival less half the round trip, also over midnight", () => {
  expect(parseClockOffset(stamps("3124533 absolute", "2", "0", "2"))).toBe(0);
  expect(parseClockOffset(stamps("3124533 absolute", "60002", "0", "-59998"))).toBe(60_000);
  expect(parseClockOffset(stamps("86399999 absolute", "-86399997", "0", "2"))).toBe(1);
  expect(parseClockOffset(stamps("3124533 absolute", "1", "1", "0", "1", "1"))).toBeNull();
  expect(parseClockOffset(PING)).toBeNull();
});

test("parseRouteGet: interface, MTU of the path, or unreachable", () => {
  expect(parseRouteGet('[{"dst":"1.1.1.1","dev":"wan","metrics":[{"mtu":1400}]}]')).toEqual({
    dev: "wan",
    mtuBytes: 1400,
  });
  expect(parseRouteGet('[{"dst":"1.1.1.1","gateway":"192.0.2.1","dev":"wan","flags":[]}]')).toEqual({
    dev: "wan",
    mtuBytes: null,
  });
  expect(parseRouteGet('[{"type":"unreachable","dst":"::","dev":"lo"}]')).toBe("unreachable");
  expect(parseRouteGet("")).toBe("unreachable");
});

test("hasDefaultInto: a default route into the interface and no other", () => {
  const routes = '[{"dst":"default","dev":"omail0","table":"51883"},{"dst":"10.8.0.0/24","dev":"omail1"}]';
  expect(hasDefaultInto(routes, "omail0")).toBe(true);
  expect(hasDefaultInto(routes, "omail1")).toBe(false);
});

test("parseFirstHost: the first host of the interface's network", () => {
  const address = (local: string, prefixlen: number) =>
    JSON.stringify([{ ifname: "omail0", addr_info: [{ family: "inet", local, prefixlen }] }]);
  expect(parseFirstHost(address("10.8.0.7", 24))).toBe("10.8.0.1");
  expect(parseFirstHost(address("172.31.255.9", 12))).toBe("172.16.0.1");
  expect(parseFirstHost(address("10.8.0.7", 32))).toBeNull();
  expect(parseFirstHost("[]")).toBeNull();
});

test("parseNameServers: those of resolv.conf(5), without comments", () => {
  expect(parseNameServers("# nameserver 1.1.1.1\nnameserver 10.8.0.1\n nameserver fe80::1%wan\n")).toEqual([
    "10.8.0.1",
    "fe80::1",
  ]);
});

test("parseListener: name and process", () => {
  const line = 'LISTEN 0 128 0.0.0.0:51820 0.0.0.0:* users:(("nginx",pid=12,fd=6),("nginx",pid=13,fd=6))';
  expect(parseListener(line)).toBe("nginx (process 12)");
  expect(parseListener("LISTEN 0 128 0.0.0.0:51820 0.0.0.0:*")).toBeNull();
});

test("all: any text is read without an exception", () => {
  const json = fc.json();
  fc.assert(
    fc.property(fc.oneof(fc.string(), json), (text) => {
      parsePing(text);
      parseMtuHint(text);
      parseClockOffset(text);
      parseRouteGet(text);
      hasDefaultInto(text, "omail0");
      parseFirstHost(text);
      parseNameServers(text);
      parseListener(text);
    }),
  );
});
