/** Sessions by ID, by destination and by source. */

import { describe, expect, test } from "bun:test";
import { Session } from "../../lib/session.ts";
import { SessionTable } from "../../lib/session_table.ts";
import { buildPacket } from "../support/inner_packet.ts";

const makeSession = (id: number) => new Session(id, true, null, 10_000, 1452, 0);
const packet = (source: string, destination: string) => {
  const version = source.includes(":") ? 6 : 4;
  return Uint8Array.of(0, 0, 0, ...buildPacket({ version, protocol: "udp", source, destination }));
};

function twoSessions() {
  const table = new SessionTable();
  const [a, b] = [makeSession(1), makeSession(2)];
  table.add(a, ["10.8.0.2/32", "fd00::2/128"]);
  table.add(b, ["10.8.0.3/32", "fd00::3/128", "192.168.7.0/24"]);
  return { table, a, b };
}

describe("SessionTable", () => {
  test("byDestination: the session that owns the destination, of either family", () => {
    const { table, a, b } = twoSessions();
    expect(table.byDestination(packet("10.8.0.1", "10.8.0.2"), 3)).toBe(a);
    expect(table.byDestination(packet("fd00::1", "fd00::3"), 3)).toBe(b);
    expect(table.byDestination(packet("10.8.0.1", "192.168.7.9"), 3)).toBe(b);
    expect(table.byDestination(packet("10.8.0.1", "10.8.0.4"), 3)).toBeUndefined();
    expect(table.byDestination(packet("fd00::1", "ff02::1"), 3)).toBeUndefined();
  });

  test("sourceAllowed: only what leads back to the session itself", () => {
    const { table, a, b } = twoSessions();
    expect(table.sourceAllowed(a, packet("10.8.0.2", "10.8.0.3"), 3)).toBe(true);
    expect(table.sourceAllowed(a, packet("10.8.0.3", "10.8.0.2"), 3)).toBe(false);
    expect(table.sourceAllowed(b, packet("fd00::2", "fd00::1"), 3)).toBe(false);
    expect(table.sourceAllowed(b, packet("192.168.7.1", "10.8.0.1"), 3)).toBe(true);
    expect(table.sourceAllowed(a, packet("10.8.0.1", "10.8.0.2"), 3)).toBe(false);
  });

  test("remove: neither ID nor addresses remain, and the session knows", () => {
    const { table, a } = twoSessions();
    table.remove(1);
    table.remove(1);
    expect(table.get(1)).toBeUndefined();
    expect(table.byDestination(packet("10.8.0.1", "10.8.0.2"), 3)).toBeUndefined();
    expect(a.removed).toBe(true);
    expect(Array.from(table.all(), ({ id }) => id)).toEqual([2]);
  });

  test("add: a session with the same ID is replaced whole", () => {
    const { table, a } = twoSessions();
    const again = makeSession(1);
    table.add(again, ["10.8.0.9/32"]);
    expect(a.removed).toBe(true);
    expect(table.get(1)).toBe(again);
    expect(table.byDestination(packet("10.8.0.1", "10.8.0.2"), 3)).toBeUndefined();
    expect(table.byDestination(packet("10.8.0.1", "10.8.0.9"), 3)).toBe(again);
  });
});
