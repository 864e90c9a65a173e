/** Reads what the system's own tools print for `check`: ping(8), ip-route(8), ss(8), resolv.conf(5). */

/** What ping counted. */
export interface PingCount {
  readonly sent: number;
  readonly received: number;
  /** Lost echoes in percent. */
  readonly lossPercent: number;
  /** Mean round trip in milliseconds; null when nothing came back. */
  readonly rttMs: number | null;
  /** From the first request to the last answer, in milliseconds. */
  readonly elapsedMs: number;
}

/** Reads the summary of iputils' ping; null when there is none. */
export function parsePing(text: string): PingCount | null {
  const counts = /(\d+) packets transmitted, (\d+) received.*?time (\d+)ms/.exec(text);
  if (counts === null) return null;
  const [sent, received, elapsedMs] = counts.slice(1).map(Number) as [number, number, number];
  const mean = /rtt min\/avg\/max\/mdev = [\d.]+\/([\d.]+)\//.exec(text)?.[1];
  return {
    sent,
    received,
    lossPercent: sent === 0 ? 0 : (100 * (sent - received)) / sent,
    rttMs: mean === undefined ? null : Number(mean),
    elapsedMs,
  };
}

/** The MTU that a router or this machine named when a packet was too big; null when nobody did. */
export function parseMtuHint(pingOutput: string): number | null {
  const found = /\bmtu ?= ?(\d{3,4})\b/i.exec(pingOutput);
  return found === null ? null : Number(found[1]);
}

/** Milliseconds of a day: timestamps of the IP option begin anew at midnight (RFC 791, section 3.1). */
const DAY_MS = 86_400_000;

/**
 * How far the clock of a neighbour is ahead of ours, from one `ping -T tsonly` (RFC 791, Internet Timestamp): the
 * neighbour's arrival less our departure less half the round trip.
 *
 * @returns milliseconds, -12 h to 12 h; null when there are not exactly the four stamps that a neighbour gives
 */
export function parseClockOffset(text: string): number | null {
  const block = /TS:((?:\s+-?\d+(?: absolute)?)+)/.exec(text)?.[1] ?? "";
  const stamps = [...block.matchAll(/(-?\d+)/g)].map((match) => Number(match[1]));
  const rtt = /time=([\d.]+) ms/.exec(text)?.[1];
  if (stamps.length !== 4 || rtt === undefined) return null;
  const ahead = (stamps[1] ?? 0) - Number(rtt) / 2;
  return ahead > DAY_MS / 2 ? ahead - DAY_MS : ahead < -DAY_MS / 2 ? ahead + DAY_MS : ahead;
}

/** Where the kernel would send a packet: an interface, or nowhere. */
export type Way = { readonly dev: string; readonly mtuBytes: number | null } | "unreachable";

/** Reads `ip -json route get`; a kernel that has no route says so on standard error and prints nothing. */
export function parseRouteGet(text: string): Way {
  for (const route of parseObjects(text)) {
    const { type, dev, metrics } = route;
    if (type === "unreachable" || type === "blackhole" || type === "prohibit") return "unreachable";
    if (typeof dev !== "string") continue;
    const mtu: unknown = Array.isArray(metrics) ? (metrics[0] as { mtu?: unknown } | undefined)?.mtu : null;
    return { dev, mtuBytes: typeof mtu === "number" ? mtu : null };
  }
  return "unreachable";
}

/** Whether `ip -json route show table all` has a default route into `tun`: what only a full tunnel makes. */
export function hasDefaultInto(text: string, tun: string): boolean {
  return parseObjects(text).some(({ dst, dev }) => dst === "default" && dev === tun);
}

/**
 * The first host of the network of an interface's IPv4 address, from `ip -4 -json address show`: where a server has its
 * own inner address unless its operator chose another.
 *
 * @returns null without an address, and for networks of one or two hosts
 */
export function parseFirstHost(text: string): string | null {
  for (const { addr_info: list } of parseObjects(text)) {
    for (const info of parseObjects(JSON.stringify(list ?? []))) {
      const { family, local, prefixlen } = info;
      if (family !== "inet" || typeof local !== "string" || typeof prefixlen !== "number") continue;
      if (prefixlen > 30 || !/^\d+(\.\d+){3}$/.test(local)) return null;
      const bits = local.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
      const first = Math.floor(bits / 2 ** (32 - prefixlen)) * 2 ** (32 - prefixlen) + 1;
      return [24, 16, 8, 0].map((shift) => Math.floor(first / 2 ** shift) % 256).join(".");
    }
  }
  return null;
}

/** IPv4 and IPv6 addresses behind `nameserver`, without zones. */
export function parseNameServers(resolvConf: string): readonly string[] {
  return [...resolvConf.matchAll(/^\s*nameserver\s+([0-9a-fA-F:.]+)/gm)].map((match) => match[1] ?? "");
}

/** The process that `ss -Hlnp` names, as `NAME (process PID)`; null when it names none. */
export function parseListener(text: string): string | null {
  const found = /users:\(\("([^"]+)",pid=(\d+)/.exec(text);
  return found === null ? null : `${found[1]} (process ${found[2]})`;
}

/** The objects of a JSON array; none when it is anything else. */
function parseObjects(text: string): readonly Readonly<Record<string, unknown>>[] {
  const value = parseJson(text);
  return Array.isArray(value)
    ? value.filter((item): item is Record<string, unknown> => typeof item === "object" && item !== null)
    : [];
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null; // printed nothing, or is another program of the same name
  }
}
