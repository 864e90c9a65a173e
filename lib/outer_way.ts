/**
 * Notices when packets to the servers leave this machine another way: device, gateway, own address or the device's MTU.
 *
 * It does not listen itself: it looks when it is told to, for most changes of a machine's networks (a container starts, our
 * own routes come) change nothing for the servers.
 */

import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { messageOf } from "./caught.ts";
import type { RunCommand } from "./command.ts";
import type { Log } from "./log.ts";

/** Addresses that are looked after at once; the oldest makes room. */
const MAX_ADDRESSES = 8;

/** The way to one server. */
interface Known {
  /** As text, see {@link readWay}. */
  way: string | null;
  /** There was none at the last look: what comes now may be another network that looks the same. */
  lost: boolean;
}

/** See the top of the file. */
export class OuterWays {
  readonly #run: RunCommand;
  readonly #log: Log;
  readonly #onChange: (why: string) => void;
  readonly #known = new Map<string, Known>();
  #busy: Promise<void> = Promise.resolve();

  /** @param onChange told what the way is now; not when there is none */
  constructor(run: RunCommand, log: Log, onChange: (why: string) => void) {
    this.#run = run;
    this.#log = log;
    this.#onChange = onChange;
  }

  /** Looks after the way to this literal address from now on. */
  follow(address: string): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#known.has(address)) return;
      const way = await readWay(address, this.#run);
      this.#known.set(address, { way, lost: way === null });
      const oldest = this.#known.keys().next().value;
      if (this.#known.size > MAX_ADDRESSES && oldest !== undefined) this.#known.delete(oldest);
    });
  }

  /** Looks whether something has changed; one call for all that has. Never rejects: logs. */
  look(): Promise<void> {
    return this.#inTurn(async () => {
      const changes: string[] = [];
      for (const [address, known] of this.#known) {
        const way = await readWay(address, this.#run);
        if (way === null && !known.lost) this.#log.debug("There is no way to the server", { address });
        if (way !== null && (known.lost || way !== known.way))
          changes.push(`${address} is reached by ${way}`);
        known.lost = way === null;
        known.way = way ?? known.way;
      }
      if (changes.length > 0) this.#onChange(changes.join("; "));
    });
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#busy = this.#busy
      .then(work)
      .catch((error: unknown) =>
        this.#log.debug(`Cannot look for the way to the server: ${messageOf(error)}`),
      );
    return this.#busy;
  }
}

/** The way to `address` as a person would say it; null when there is none. */
async function readWay(address: string, run: RunCommand): Promise<string | null> {
  const family = isIP(address) === 6 ? "IPv6" : "IPv4";
  if (process.platform === "darwin") {
    const { stdout } = await run(["route", "-n", "get", family === "IPv6" ? "-inet6" : "-inet", address]);
    return wayOfRouteGet(stdout, (device) =>
      (networkInterfaces()[device] ?? []).flatMap((own) => (own.family === family ? [own.address] : [])),
    );
  }
  const { stdout } = await run(["ip", "-json", "route", "get", address]);
  const device = deviceOf(stdout);
  if (device === null) return null;
  const link = await run(["ip", "-json", "link", "show", "dev", device]);
  return wayOfIpRoute(stdout, link.stdout);
}

/** What we read from `ip -json route get`. */
interface Route {
  readonly dev: string;
  readonly gateway?: string;
  readonly prefsrc?: string;
  readonly flags?: readonly string[];
}

function deviceOf(routes: string): string | null {
  const route = firstOf(routes);
  return isRoute(route) ? route.dev : null;
}

/**
 * Reads the way from what `ip -json route get` and `ip -json link show` say (ip-route(8), ip-link(8)). The path MTU that
 * the kernel has learned of the route is left out: that is no change of the way.
 */
export function wayOfIpRoute(routes: string, links: string): string | null {
  const route = firstOf(routes);
  if (!isRoute(route)) return null;
  // the route stays when the cable is out
  if (route.flags?.some((flag) => flag === "linkdown" || flag === "dead") === true) return null;
  const link = firstOf(links);
  const mtu = typeof link === "object" && link !== null && "mtu" in link ? `, MTU ${String(link.mtu)}` : "";
  return wayText(route.dev, route.gateway, route.prefsrc === undefined ? [] : [route.prefsrc]) + mtu;
}

/** Reads the way from what `route -n get` says (route(8) of macOS). @param addressesOf own addresses of a device */
export function wayOfRouteGet(
  text: string,
  addressesOf: (device: string) => readonly string[],
): string | null {
  const device = /^\s*interface: (\S+)$/m.exec(text)?.[1];
  if (device === undefined) return null;
  const gateway = /^\s*gateway: (\S+)$/m.exec(text)?.[1];
  const mtu = /^\s*recvpipe.*\bmtu\b.*\n\s*(?:\d+\s+){6}(\d+)/m.exec(text)?.[1];
  return wayText(device, gateway, addressesOf(device)) + (mtu === undefined ? "" : `, MTU ${mtu}`);
}

function wayText(device: string, gateway: string | undefined, own: readonly string[]): string {
  return [
    device,
    ...(gateway === undefined ? [] : ["via", gateway]),
    ...own.map((text) => `from ${text}`),
  ].join(" ");
}

function firstOf(json: string): unknown {
  const value: unknown = JSON.parse(json.trim() || "[]");
  return Array.isArray(value) ? value[0] : undefined;
}

function isRoute(value: unknown): value is Route {
  return typeof value === "object" && value !== null && "dev" in value && typeof value.dev === "string";
}
