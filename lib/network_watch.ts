/**
 * Hears of changes of this machine's networks: links, addresses, routes, rules, and who answers names.
 *
 * Linux tells by rtnetlink(7), macOS by `route monitor` (route(8)); the folder of resolv.conf is watched by the system
 * as well. Nothing is polled. What exactly changed is not told: whoever listens looks at what is there.
 */

import { type FSWatcher, watch } from "node:fs";
import { messageOf } from "./caught.ts";
import type { Log } from "./log.ts";

/** Changes come in crowds (a link, its addresses, its routes): one call for all that come within this time. */
const SETTLE_MS = 100;
/** Between two calls at least: a machine that starts and stops containers all the time is not looked at all the time. */
const PAUSE_MS = 1_000;
/** Before another try, after the source of news broke: too many changes at once break the socket (ENOBUFS). */
const REOPEN_MS = 1_000;
const RESOLV_CONF = { folder: "/etc", name: "resolv.conf" };

/** Something that is closed at the end. */
export interface NetworkWatch {
  close(): void;
}

/** A stream of news, whatever their text. */
interface News {
  readonly stream: ReadableStream<Uint8Array>;
  close(): void;
}

/** Calls `onChange` after each crowd of changes. A machine that does not tell costs a warning. */
export function watchNetwork(onChange: () => void, log: Log): NetworkWatch {
  const crowd = new Crowd(onChange);
  const news = new NewsReader(() => crowd.changed(), log);
  const files = watchResolvConf(() => crowd.changed(), log);
  void news.run();
  return {
    close: () => {
      news.close();
      files?.close();
      crowd.close();
    },
  };
}

/** One call for many changes. */
class Crowd {
  readonly #onChange: () => void;
  #calledMs = Number.NEGATIVE_INFINITY;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #closed = false;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  changed(): void {
    if (this.#closed || this.#timer !== null) return;
    const waitMs = Math.max(SETTLE_MS, this.#calledMs + PAUSE_MS - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#calledMs = performance.now();
      this.#onChange();
    }, waitMs);
  }

  close(): void {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}

/** Reads news until it is closed; opens the source anew when it breaks. */
class NewsReader {
  readonly #onNews: () => void;
  readonly #log: Log;
  #stop: (() => void) | null = null;
  #closed = false;

  constructor(onNews: () => void, log: Log) {
    this.#onNews = onNews;
    this.#log = log;
  }

  async run(): Promise<void> {
    while (!this.#closed) {
      try {
        await this.#readAll(await openNews());
      } catch (error) {
        if (!this.#closed) this.#log.debug(`The watch over the network begins anew: ${messageOf(error)}`);
      }
      if (this.#closed) return;
      await Bun.sleep(REOPEN_MS);
      this.#onNews(); // whatever was missed meanwhile
    }
  }

  close(): void {
    this.#closed = true;
    this.#stop?.();
  }

  async #readAll(news: News): Promise<void> {
    const reader = news.stream.getReader();
    this.#stop = () => void reader.cancel().catch(() => undefined);
    if (this.#closed) this.#stop();
    try {
      while (!(await reader.read()).done) this.#onNews();
    } finally {
      this.#stop = null;
      news.close();
    }
  }
}

async function openNews(): Promise<News> {
  if (process.platform === "darwin") {
    const child = Bun.spawn(["route", "-n", "monitor"], { stdin: "ignore", stderr: "ignore" });
    return { stream: child.stdout, close: () => child.kill() };
  }
  const [{ openRouteSocket }, { libc }] = await Promise.all([
    import("./libc_netlink.ts"),
    import("./libc.ts"),
  ]);
  const fd = openRouteSocket();
  return { stream: Bun.file(fd).stream(), close: () => void libc.close(fd) };
}

function watchResolvConf(onChange: () => void, log: Log): FSWatcher | null {
  try {
    const watcher = watch(RESOLV_CONF.folder, (_event, name) => {
      if (name === RESOLV_CONF.name) onChange();
    });
    watcher.on("error", (error) => log.debug(`Cannot watch "${RESOLV_CONF.folder}": ${messageOf(error)}`));
    return watcher;
  } catch (error) {
    log.debug(`Cannot watch "${RESOLV_CONF.folder}": ${messageOf(error)}`);
    return null;
  }
}
