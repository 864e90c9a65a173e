import { expect, test } from "bun:test";
import fc from "fast-check";
import type { TransportChoice, TransportName } from "../../lib/data_plane_message.ts";
import { ClientTransport } from "../../lib/transport.ts";
import { check, randomSource } from "../support/property.ts";

const TICK_MS = 100;
const KEEPALIVE_MS = 10_000;

interface Move {
  readonly atMs: number;
  readonly to: TransportName;
  readonly reason: string;
}

/** A client whose paths answer, or not, as a test says. */
class World {
  readonly transport: ClientTransport;
  readonly moves: Move[] = [];
  readonly asks: { readonly atMs: number; readonly name: TransportName }[] = [];
  nowMs = 50_000;
  udp = true;
  /** The stream is there and answers; it may be there and not answer. */
  stream = true;
  streamAnswers = true;
  busy = true;
  rttMs = 40;
  lossPercent = 0;
  readonly #random: (below: number) => number;
  readonly #answers: { readonly atMs: number; readonly name: TransportName }[] = [];

  constructor(choice: TransportChoice = "auto", keepaliveMs = KEEPALIVE_MS, seed = 1) {
    this.transport = new ClientTransport(choice, keepaliveMs);
    this.#random = randomSource(seed);
    this.transport.streamChanged(true);
  }

  setStream(up: boolean): void {
    this.stream = up;
    this.transport.streamChanged(up);
  }

  run(ms: number): this {
    for (const endMs = this.nowMs + ms; this.nowMs < endMs; this.nowMs += TICK_MS) this.#tick();
    return this;
  }

  /** Milliseconds from now until the path in use is `name`. */
  untilOn(name: TransportName, limitMs: number): number {
    const startMs = this.nowMs;
    while (this.transport.current !== name && this.nowMs - startMs < limitMs) this.run(TICK_MS);
    return this.nowMs - startMs;
  }

  #tick(): void {
    for (const answer of this.#answers.splice(0)) {
      if (answer.atMs > this.nowMs) this.#answers.push(answer);
      else if (answer.name === "udp" ? this.udp : this.stream && this.streamAnswers)
        this.transport.answered(answer.name, this.nowMs);
    }
    if (this.busy) this.transport.sent(this.nowMs);
    const { ask, moved } = this.transport.tick(this.nowMs);
    if (moved !== null) this.moves.push({ atMs: this.nowMs, ...moved });
    for (const name of ask) {
      this.transport.asked(name, this.nowMs);
      this.asks.push({ atMs: this.nowMs, name });
      const works = name === "udp" ? this.udp : this.stream && this.streamAnswers;
      const lost = name === "udp" && this.#random(100) < this.lossPercent;
      if (works && !lost) this.#answers.push({ atMs: this.nowMs + this.rttMs, name });
    }
  }
}

test("ClientTransport stays on UDP that answers, and does not ask the stream then", () => {
  const world = new World().run(120_000);
  expect(world.moves).toEqual([]);
  expect(world.asks.filter(({ name, atMs }) => name === "tcp" && atMs > 52_000)).toEqual([]);
});

test("ClientTransport goes to TLS within 2 s when UDP is blocked from the start", () => {
  const world = new World();
  world.udp = false;
  expect(world.untilOn("tcp", 10_000)).toBeLessThan(2_000);
});

test("ClientTransport leaves a UDP that dies under traffic within 4 s, and returns within 30 s", () => {
  check(
    fc.property(fc.integer({ min: 0, max: 60_000 }), fc.integer({ min: 0, max: 300 }), (beforeMs, rttMs) => {
      const world = new World();
      world.rttMs = rttMs;
      world.run(beforeMs + 5_000);
      world.udp = false;
      expect(world.untilOn("tcp", 20_000)).toBeLessThan(4_000);
      world.run(beforeMs + 1_000);
      world.udp = true;
      expect(world.untilOn("udp", 60_000)).toBeLessThan(30_000);
      expect(world.moves.map(({ to }) => to)).toEqual(["tcp", "udp"]);
    }),
    60,
  );
});

test("ClientTransport notices within two keep-alives while nothing is sent", () => {
  for (const keepaliveMs of [1_000, 2_000, 5_000, 10_000, 25_000]) {
    const world = new World("auto", keepaliveMs);
    world.busy = false;
    world.run(60_000);
    world.udp = false;
    expect(world.untilOn("tcp", 120_000)).toBeLessThanOrEqual(2 * keepaliveMs + TICK_MS);
  }
});

test("ClientTransport moves nothing in an outage of both paths", () => {
  const world = new World().run(10_000);
  world.udp = false;
  world.streamAnswers = false;
  world.run(3_000);
  world.udp = true;
  world.streamAnswers = true;
  world.run(60_000);
  expect(world.moves).toEqual([]);
});

test("ClientTransport goes back to UDP at once when the stream is lost", () => {
  const world = new World();
  world.udp = false;
  world.run(10_000);
  world.setStream(false);
  world.run(TICK_MS);
  expect(world.transport.current).toBe("udp");
  // a new stream is used as soon as it answers: UDP owes for long
  world.setStream(true);
  expect(world.untilOn("tcp", 10_000)).toBeLessThan(500);
});

test("ClientTransport leaves a stream that does not answer when UDP does, without waiting", () => {
  const world = new World();
  world.udp = false;
  world.run(10_000);
  world.streamAnswers = false;
  world.run(5_000);
  expect(world.transport.current).toBe("tcp");
  world.udp = true;
  expect(world.untilOn("udp", 30_000)).toBeLessThan(7_000);
});

test("ClientTransport waits longer after each return to a UDP that fails again, but never 30 s", () => {
  const world = new World().run(5_000);
  const stays: number[] = [];
  for (let i = 0; i < 6; i++) {
    world.udp = false;
    world.untilOn("tcp", 20_000);
    world.udp = true;
    stays.push(world.untilOn("udp", 60_000));
    world.run(1_000);
  }
  expect(stays[1]!).toBeGreaterThan(stays[0]!);
  expect(stays[3]!).toBeGreaterThan(stays[1]!);
  expect(Math.max(...stays)).toBeLessThan(30_000);
  // a long good time forgets it
  world.run(120_000);
  world.udp = false;
  world.untilOn("tcp", 20_000);
  world.udp = true;
  expect(world.untilOn("udp", 60_000)).toBeLessThan(3_000);
});

test("ClientTransport keeps to UDP that loses a fifth of its datagrams each way", () => {
  for (const keepaliveMs of [1_000, 10_000]) {
    const world = new World("auto", keepaliveMs, 7);
    world.lossPercent = 36;
    world.run(300_000);
    expect(world.moves.filter(({ to }) => to === "tcp").length).toBeLessThanOrEqual(2);
  }
});

test("ClientTransport never moves when a path was chosen, and asks no other", () => {
  for (const choice of ["udp", "tcp"] as const) {
    const world = new World(choice);
    world.udp = choice === "tcp";
    world.streamAnswers = choice === "udp";
    world.run(30_000);
    world.setStream(false);
    world.run(30_000);
    expect(world.transport.current).toBe(choice);
    expect(world.moves).toEqual([]);
    expect(world.asks.some(({ name }) => name !== choice)).toBe(false);
  }
});

test("doubt() has every path in use asked at the next tick", () => {
  const world = new World();
  world.busy = false;
  world.run(31_000);
  world.asks.splice(0);
  world.transport.doubt();
  world.run(TICK_MS);
  expect(world.asks.map(({ name }) => name)).toEqual(["udp", "tcp"]);
});

test("tick() asks no path more than ten times a second, whatever happens", () => {
  check(
    fc.property(fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 40 }), (events) => {
      const world = new World("auto", 1_000);
      for (const event of events) {
        if (event === 0) world.udp = !world.udp;
        if (event === 1) world.setStream(!world.stream);
        if (event === 2) world.streamAnswers = !world.streamAnswers;
        if (event === 3) world.busy = !world.busy;
        world.run(700);
      }
      const spanMs = world.nowMs - 50_000;
      for (const name of ["udp", "tcp"] as const) {
        const count = world.asks.filter((ask) => ask.name === name).length;
        expect(count).toBeLessThanOrEqual(spanMs / TICK_MS + 1);
      }
    }),
    100,
  );
});
