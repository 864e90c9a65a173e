/** One peer's state: epochs, endpoint, keep-alives, round trip, loss. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Keepalive } from "../../lib/keepalive.ts";
import {
  EPOCH_OVERLAP_MS,
  MAX_LIVE_EPOCHS,
  REASSEMBLY_TIMEOUT_MS,
  REJECT_AFTER_RECORDS,
  REKEY_AFTER_RECORDS,
} from "../../lib/limits.ts";
import { Session } from "../../lib/session.ts";
import { opaqueKeys } from "../support/epoch_keys.ts";
import { check } from "../support/property.ts";

const KEEPALIVE_MS = 10_000;
const HOME = { host: "192.0.2.1", port: 1000 };

function makeSession(endpoint: { host: string; port: number } | null = HOME): Session {
  return new Session(7, true, endpoint, KEEPALIVE_MS, 1452, 0);
}

/** Opens record `sequence` of `epoch` as if its tag had been verified. */
function open(session: Session, epoch: number, sequence: number, nowMs = 0): string {
  const receiving = session.findEpoch(epoch);
  if (receiving === undefined) throw new Error(`no epoch ${epoch}`);
  return session.recordOpened(receiving, sequence, nowMs);
}

const liveEpochs = (session: Session) =>
  Array.from({ length: 300 }, (_, epoch) => epoch).filter((epoch) => session.findEpoch(epoch) !== undefined);

describe("Session: epochs", () => {
  test("sendNow: seals with the new key from the installation on", () => {
    const session = makeSession();
    session.installEpoch(opaqueKeys(0), true);
    expect(session.sending?.epoch).toBe(0);
    session.installEpoch(opaqueKeys(1), true);
    expect(session.sending?.epoch).toBe(1);
  });

  test("not sendNow: seals with the new key from the first record opened under it on", () => {
    const session = makeSession();
    session.installEpoch(opaqueKeys(0), false);
    expect(session.sending).toBeNull();
    expect(open(session, 0, 0)).toBe("confirmed");
    expect(session.sending?.epoch).toBe(0);
    session.installEpoch(opaqueKeys(1), false);
    expect(open(session, 0, 1)).toBe("opened");
    expect(session.sending?.epoch).toBe(0);
    expect(open(session, 1, 0)).toBe("confirmed");
    expect(session.sending?.epoch).toBe(1);
  });

  test("an epoch that is installed twice keeps its counter and its window", () => {
    const session = makeSession();
    session.installEpoch(opaqueKeys(3), true);
    session.takeSequence(session.sending!, 1);
    open(session, 3, 9);
    session.installEpoch(opaqueKeys(3), true);
    expect(session.sending?.sequence).toBe(1);
    expect(open(session, 3, 9)).toBe("replayed");
  });

  test("an epoch that replaced one which never came into use does not wait for it", () => {
    const session = makeSession();
    session.installEpoch(opaqueKeys(0), true);
    session.installEpoch(opaqueKeys(1), false);
    session.installEpoch(opaqueKeys(2), false);
    open(session, 2, 0);
    expect(session.sending?.epoch).toBe(2);
  });

  test("an old epoch is opened through the overlap and forgotten after it, counted from the confirmation", () => {
    const session = makeSession();
    session.installEpoch(opaqueKeys(0), true);
    open(session, 0, 0);
    session.installEpoch(opaqueKeys(1), true);
    session.tick(3600_000);
    expect(liveEpochs(session)).toEqual([0, 1]);
    open(session, 1, 0, 3600_000);
    expect(open(session, 0, 1, 3600_001)).toBe("opened");
    session.tick(3600_000 + EPOCH_OVERLAP_MS - 1);
    expect(liveEpochs(session)).toEqual([0, 1]);
    session.tick(3600_000 + EPOCH_OVERLAP_MS);
    expect(liveEpochs(session)).toEqual([1]);
  });

  test("a later confirmation does not lengthen the life of an older epoch", () => {
    const session = makeSession();
    for (const epoch of [0, 1, 2]) session.installEpoch(opaqueKeys(epoch), true);
    open(session, 1, 0, 1000);
    open(session, 2, 0, 5000);
    session.tick(1000 + EPOCH_OVERLAP_MS);
    expect(liveEpochs(session)).toEqual([1, 2]);
  });

  test("never more than the limit, whatever is installed: the oldest goes", () => {
    const session = makeSession();
    for (let epoch = 0; epoch < 20; epoch++) {
      session.installEpoch(opaqueKeys(epoch), true);
      expect(liveEpochs(session).length).toBeLessThanOrEqual(MAX_LIVE_EPOCHS);
    }
    expect(liveEpochs(session)).toEqual([16, 17, 18, 19]);
  });

  test("the counters of forgotten epochs are kept", () => {
    const session = makeSession();
    for (let epoch = 0; epoch < 10; epoch++) {
      session.installEpoch(opaqueKeys(epoch), true);
      open(session, epoch, 0);
      open(session, epoch, 4);
    }
    expect([session.recordsSeen, session.recordsExpected]).toEqual([20, 50]);
  });
});

describe("Session: sequence numbers", () => {
  test("takeSequence counts from 0 and starts anew with each epoch", () => {
    const session = makeSession();
    session.installEpoch(opaqueKeys(0), true);
    expect([0, 0, 0].map(() => session.takeSequence(session.sending!, 1))).toEqual([0, 1, 2]);
    session.installEpoch(opaqueKeys(1), true);
    expect(session.takeSequence(session.sending!, 1)).toBe(0);
    expect(session.txRecords).toBe(4);
  });

  test("takeSequence stops before the key is worn out", () => {
    const session = makeSession();
    session.installEpoch(opaqueKeys(0), true);
    session.sending!.sequence = REJECT_AFTER_RECORDS - 1;
    expect(session.takeSequence(session.sending!, 1)).toBe(REJECT_AFTER_RECORDS - 1);
    expect(session.takeSequence(session.sending!, 1)).toBe(-1);
    expect(session.txRecords).toBe(1);
  });

  test("takeRekeyWish: once per epoch, in time", () => {
    const session = makeSession();
    expect(session.takeRekeyWish()).toBe(false);
    session.installEpoch(opaqueKeys(0), true);
    session.sending!.sequence = REKEY_AFTER_RECORDS - 1;
    expect(session.takeRekeyWish()).toBe(false);
    session.takeSequence(session.sending!, 1);
    expect([session.takeRekeyWish(), session.takeRekeyWish()]).toEqual([true, false]);
    session.installEpoch(opaqueKeys(1), true);
    session.sending!.sequence = REKEY_AFTER_RECORDS;
    expect(session.takeRekeyWish()).toBe(true);
  });
});

describe("Session.placeEndpoint", () => {
  test("moves forward only: an older record, delayed or replayed by somebody else, does not move it back", () => {
    const session = makeSession(null);
    expect(session.placeEndpoint(0, 5, { host: "192.0.2.1", port: 1 })).toBe(true);
    expect(session.placeEndpoint(0, 4, { host: "192.0.2.2", port: 2 })).toBe(false);
    expect(session.placeEndpoint(0, 5, { host: "192.0.2.2", port: 2 })).toBe(false);
    expect(session.endpoint).toEqual({ host: "192.0.2.1", port: 1 });
    expect(session.placeEndpoint(0, 6, { host: "192.0.2.2", port: 2 })).toBe(true);
    expect(session.endpoint).toEqual({ host: "192.0.2.2", port: 2 });
    expect(session.placeEndpoint(1, 0, { host: "192.0.2.3", port: 3 })).toBe(true);
    expect(session.placeEndpoint(0, 99, { host: "192.0.2.4", port: 4 })).toBe(false);
  });

  test("says that it moved only when host or port differ", () => {
    const session = makeSession();
    expect(session.placeEndpoint(0, 0, { host: HOME.host, port: HOME.port })).toBe(false);
    expect(session.placeEndpoint(0, 1, { host: HOME.host, port: HOME.port + 1 })).toBe(true);
    expect(session.placeEndpoint(0, 2, { host: HOME.host, port: HOME.port })).toBe(true);
  });
});

describe("Session.admitsPieces", () => {
  test("the endpoint always, and one candidate at a time", () => {
    const session = makeSession();
    expect(session.admitsPieces({ host: HOME.host, port: HOME.port }, 0)).toBe(true);
    expect(session.admitsPieces({ host: "192.0.2.7", port: 1 }, 0)).toBe(true);
    expect(session.admitsPieces({ host: "192.0.2.7", port: 1 }, 10)).toBe(true);
    expect(session.admitsPieces({ host: "192.0.2.7", port: 2 }, 10)).toBe(false);
    expect(session.admitsPieces({ host: "192.0.2.8", port: 1 }, REASSEMBLY_TIMEOUT_MS - 1)).toBe(false);
    expect(session.admitsPieces({ host: HOME.host, port: HOME.port }, 10)).toBe(true);
  });

  test("another candidate gets its turn after the time-out", () => {
    const session = makeSession();
    session.admitsPieces({ host: "192.0.2.7", port: 1 }, 0);
    expect(session.admitsPieces({ host: "192.0.2.8", port: 1 }, REASSEMBLY_TIMEOUT_MS)).toBe(true);
    expect(session.admitsPieces({ host: "192.0.2.7", port: 1 }, REASSEMBLY_TIMEOUT_MS)).toBe(false);
  });

  test("a proven move makes room for the next candidate", () => {
    const session = makeSession();
    session.admitsPieces({ host: "192.0.2.7", port: 1 }, 0);
    session.placeEndpoint(0, 0, { host: "192.0.2.7", port: 1 });
    expect(session.admitsPieces({ host: "192.0.2.9", port: 1 }, 1)).toBe(true);
  });

  test("a session without an endpoint has a candidate like any other", () => {
    const session = makeSession(null);
    expect(session.admitsPieces({ host: "192.0.2.7", port: 1 }, 0)).toBe(true);
    expect(session.admitsPieces({ host: "192.0.2.8", port: 1 }, 0)).toBe(false);
  });
});

describe("Session.tick", () => {
  test("nothing without key or endpoint", () => {
    expect(makeSession().tick(100_000)).toBeNull();
    const homeless = makeSession(null);
    homeless.installEpoch(opaqueKeys(0), true);
    expect(homeless.tick(100_000)).toBeNull();
  });

  test("proves a new epoch at once, also in the first moments of the clock, and again until it is confirmed", () => {
    const session = makeSession();
    session.installEpoch(opaqueKeys(0), true);
    expect(session.tick(3)).toBe("confirm");
    session.keepaliveMessage(true, 3);
    expect(session.tick(100)).toBeNull();
    expect(session.tick(203)).toBe("confirm");
    open(session, 0, 0, 300);
    expect(session.tick(500)).toBeNull();
  });

  test("a keep-alive every interval, counted from the last one sent", () => {
    const session = makeSession();
    session.installEpoch(opaqueKeys(0), true);
    open(session, 0, 0, 0);
    session.keepaliveMessage(false, 50_000);
    expect(session.tick(50_000 + KEEPALIVE_MS - 1)).toBeNull();
    expect(session.tick(50_000 + KEEPALIVE_MS)).toBe("keepalive");
    session.keepaliveMessage(false, 70_000);
    expect(session.tick(70_001)).toBeNull();
  });
});

const keepalive = (fields: Partial<Keepalive>): Keepalive => ({
  replyWanted: false,
  probe: false,
  sentAtUs: 0,
  echo: null,
  recordsSeen: 0,
  recordsExpected: 0,
  recordsRestored: 0,
  ...fields,
});

describe("Session: round trip", () => {
  /** The round trip that A measures when messages take `there` and `back` and B waits `idle`, all in milliseconds. */
  function measure(
    startMs: number,
    offsetMs: number,
    there: number,
    idle: number,
    back: number,
  ): number | null {
    const a = makeSession();
    const b = makeSession();
    const ping = a.keepaliveMessage(false, startMs);
    b.keepaliveReceived(ping, startMs + there + offsetMs);
    const pong = b.keepaliveMessage(false, startMs + there + idle + offsetMs);
    a.keepaliveReceived(pong, startMs + there + idle + back);
    return a.rttMs;
  }

  test("is the time on the way, whatever the peer's clock and the idle time between, across the wrap of 32 bits", () => {
    const time = fc.integer({ min: 0, max: 2_000 });
    const wrapMs = 2 ** 32 / 1000;
    const start = fc.oneof(
      fc.integer({ min: 0, max: 1e9 }),
      fc.nat(3000).map((n) => wrapMs - n),
    );
    check(
      fc.property(
        start,
        fc.integer({ min: 0, max: 1e9 }),
        time,
        fc.nat(60_000),
        time,
        (at, offset, there, idle, back) => {
          const rttMs = measure(at, offset, there, idle, back);
          expect(Math.abs(rttMs! - there - back)).toBeLessThanOrEqual(0.002);
        },
      ),
      500,
    );
  });

  test("unknown before the first echo, and not spoiled by a peer that lies", () => {
    const session = makeSession();
    session.keepaliveReceived(keepalive({}), 5_000);
    expect(session.rttMs).toBeNull();
    session.keepaliveReceived(keepalive({ echo: { sentAtUs: 4_980_000, delayUs: 10_000 } }), 5_000);
    expect(session.rttMs).toBe(10);
    session.keepaliveReceived(keepalive({ echo: { sentAtUs: 4_980_000, delayUs: 30_000 } }), 5_000);
    session.keepaliveReceived(keepalive({ echo: { sentAtUs: 6_000_000, delayUs: 0 } }), 5_000);
    expect(session.rttMs).toBe(10);
  });

  test("keepaliveMessage echoes the newest time stamp and how long ago it came", () => {
    const session = makeSession();
    expect(session.keepaliveMessage(true, 1_000)).toEqual(
      keepalive({ replyWanted: true, sentAtUs: 1_000_000, overloaded: false, newPath: false }),
    );
    session.keepaliveReceived(keepalive({ sentAtUs: 77 }), 2_000);
    expect(session.keepaliveMessage(false, 2_500).echo).toEqual({ sentAtUs: 77, delayUs: 500_000 });
  });

  test("keepaliveReceived passes the wish for an answer on", () => {
    const session = makeSession();
    expect(session.keepaliveReceived(keepalive({ replyWanted: true }), 0)).toBe(true);
    expect(session.keepaliveReceived(keepalive({}), 0)).toBe(false);
  });
});

describe("Session: loss", () => {
  test("percent of what the peer sent since its last keep-alive, over epochs", () => {
    const session = makeSession();
    session.installEpoch(opaqueKeys(0), true);
    for (const sequence of [0, 1, 2, 9]) open(session, 0, sequence);
    session.keepaliveReceived(keepalive({}), 0);
    expect(session.lossPercent).toBe(60);
    session.installEpoch(opaqueKeys(1), true);
    for (const sequence of [0, 1, 2, 3]) open(session, 1, sequence);
    session.keepaliveReceived(keepalive({}), 0);
    expect(session.lossPercent).toBe(0);
  });

  test("late records are not negative loss", () => {
    const session = makeSession();
    session.installEpoch(opaqueKeys(0), true);
    open(session, 0, 9);
    session.keepaliveReceived(keepalive({}), 0);
    for (let sequence = 0; sequence < 9; sequence++) open(session, 0, sequence);
    session.keepaliveReceived(keepalive({}), 0);
    expect(session.lossPercent).toBe(0);
  });

  test("recordsSeen and recordsExpected are what the keep-alive reports, and never contradict each other", () => {
    const session = makeSession();
    session.installEpoch(opaqueKeys(0), true);
    for (const sequence of [3, 1, 1, 8]) open(session, 0, sequence, 42);
    const { recordsSeen, recordsExpected } = session.keepaliveMessage(false, 50);
    expect([recordsSeen, recordsExpected, session.lastReceivedMs]).toEqual([3, 9, 42]);
  });
});
