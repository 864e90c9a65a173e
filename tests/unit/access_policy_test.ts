import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  type AccessPolicy,
  decide,
  formatRule,
  grantsFor,
  type PolicyDefault,
  type PolicyRule,
} from "../../lib/access_policy.ts";
import { networkOf, parseAddress, parseNetwork, parsePrefix } from "../../lib/address.ts";
import { policyScript, policyTableName } from "../../lib/firewall_policy.ts";
import { PolicyKeeper } from "../../lib/policy_keeper.ts";
import { memoryLog } from "../support/memory_log.ts";
import { check } from "../support/property.ts";

const SERVER = ["10.8.0.1/24", "fd08:8::1/64"].map(parsePrefix);

function policyOf(
  rules: readonly Partial<PolicyRule>[],
  otherwise: PolicyDefault = "pushed",
  pushRoutes: readonly string[] = ["192.168.50.0/24"],
): AccessPolicy {
  return {
    rules: rules.map((rule) => ({ who: ["*"], networks: [], proto: "any", ports: [], ...rule })),
    otherwise,
    networks: {
      server: SERVER,
      tunnel: SERVER.map(networkOf),
      pushRoutes: pushRoutes.map(parseNetwork),
      pushDns: [parseAddress("192.168.50.53")],
    },
  };
}

/** Whether `user` may reach `address` at `port` by TCP. */
function reaches(
  policy: AccessPolicy,
  user: string,
  address: string,
  port = 443,
  groups: string[] = [],
): boolean {
  const question = { address: parseAddress(address), proto: "tcp", port } as const;
  return decide(policy, grantsFor(policy, user, groups), question) !== null;
}

describe("the default", () => {
  test("pushed: the pushed networks and the server, no other client, nothing else", () => {
    const policy = policyOf([]);
    expect(reaches(policy, "alice", "192.168.50.7")).toBe(true);
    expect(reaches(policy, "alice", "10.8.0.1")).toBe(true);
    expect(reaches(policy, "alice", "fd08:8::1")).toBe(true);
    expect(reaches(policy, "alice", "10.8.0.2")).toBe(false);
    expect(reaches(policy, "alice", "fd08:8::2")).toBe(false);
    expect(reaches(policy, "alice", "192.168.51.7")).toBe(false);
    expect(reaches(policy, "alice", "8.8.8.8")).toBe(false);
  });

  test("a server that pushes nothing is one for full tunnels; other clients stay out of reach", () => {
    const policy = policyOf([], "pushed", []);
    expect(reaches(policy, "alice", "8.8.8.8")).toBe(true);
    expect(reaches(policy, "alice", "2001:db8::1")).toBe(true);
    expect(reaches(policy, "alice", "10.8.0.2")).toBe(false);
  });

  test("none: only the pushed DNS server, on its port", () => {
    const policy = policyOf([], "none");
    expect(reaches(policy, "alice", "192.168.50.7")).toBe(false);
    expect(reaches(policy, "alice", "192.168.50.53")).toBe(false);
    expect(reaches(policy, "alice", "192.168.50.53", 53)).toBe(true);
  });
});

describe("rules", () => {
  const policy = policyOf([
    { who: ["@staff"], networks: ["192.168.60.0/24"], proto: "tcp", ports: [{ from: 22, to: 25 }] },
    { who: ["alice"], networks: ["clients"] },
    { who: ["@admin"], networks: ["0.0.0.0/0"] },
    { who: ["carol"], networks: ["10.8.0.0/28"] },
  ]);

  test("who is named has what its rules say and nothing else; others have the default", () => {
    expect(reaches(policy, "dave", "192.168.60.1", 22, ["staff"])).toBe(true);
    expect(reaches(policy, "dave", "192.168.60.1", 26, ["staff"])).toBe(false);
    expect(reaches(policy, "dave", "192.168.50.1", 22, ["staff"])).toBe(false);
    expect(reaches(policy, "bob", "192.168.50.1")).toBe(true);
    expect(reaches(policy, "bob", "192.168.60.1", 22)).toBe(false);
  });

  test("rules of a user and of its groups add up", () => {
    expect(reaches(policy, "alice", "192.168.60.1", 22, ["staff"])).toBe(true);
    expect(reaches(policy, "alice", "10.8.0.9", 22, ["staff"])).toBe(true);
    expect(reaches(policy, "alice", "10.8.0.1", 22, ["staff"])).toBe(false);
  });

  test("a wide network does not mean other clients, one inside the tunnel's does", () => {
    expect(reaches(policy, "root", "8.8.8.8", 1, ["admin"])).toBe(true);
    expect(reaches(policy, "root", "10.8.0.9", 1, ["admin"])).toBe(false);
    expect(reaches(policy, "carol", "10.8.0.9")).toBe(true);
    expect(reaches(policy, "carol", "10.8.0.99")).toBe(false);
    expect(reaches(policy, "carol", "10.8.0.1")).toBe(true);
  });

  test("a group's name is no user's name", () => {
    expect(reaches(policy, "staff", "192.168.60.1", 22)).toBe(false);
    expect(reaches(policy, "eve", "10.8.0.9", 1, ["alice"])).toBe(false);
  });

  test("formatRule() says it in words", () => {
    expect(formatRule(policy.rules[0]!)).toBe("@staff may reach 192.168.60.0/24 by tcp 22-25");
    expect(formatRule(policy.rules[1]!)).toBe("alice may reach clients by everything");
  });

  test("more rules for a named user never take anything away", () => {
    const rule = fc.record({
      who: fc.constantFrom(["alice"], ["@staff"], ["bob"]),
      networks: fc.constantFrom(["all"], ["clients"], ["server"], ["pushed"], ["192.168.60.0/24"]),
      proto: fc.constantFrom("any" as const, "tcp" as const, "udp" as const, "icmp" as const),
    });
    const address = fc.constantFrom(
      "10.8.0.1",
      "10.8.0.2",
      "192.168.50.1",
      "192.168.60.1",
      "8.8.8.8",
      "fd08:8::5",
    );
    check(
      fc.property(fc.array(rule, { maxLength: 5 }), rule, address, (rules, extra, target) => {
        const before = policyOf([{ who: ["alice"], networks: [] }, ...rules]);
        const after = policyOf([...before.rules, { ports: [], ...extra }]);
        if (reaches(before, "alice", target, 443, ["staff"]))
          expect(reaches(after, "alice", target, 443, ["staff"])).toBe(true);
      }),
    );
  });
});

describe("policyScript()", () => {
  test("without rules: no map, no look at the server's own ports, no tracking unless NAT does it", () => {
    const otherwise = grantsFor(policyOf([], "pushed", []), "", []);
    const table = { tun: "omail0", otherwise, byMember: false, members: [] };
    const plain = policyScript({ ...table, tracked: false });
    expect(plain).toStartWith("table inet omail_omail0_policy\ndelete table inet omail_omail0_policy\n");
    expect(plain).not.toContain("ct direction");
    expect(plain).not.toContain("hook input");
    expect(plain).toContain('oifname "omail0" counter reject');
    expect(policyScript({ ...table, tracked: true })).toContain("ct direction reply accept");
  });

  test("with rules: members with the same grants share a chain, everybody else is dropped", () => {
    const policy = policyOf([
      { who: ["alice", "bob"], networks: ["all"], proto: "udp", ports: [{ from: 1, to: 9 }] },
    ]);
    const member = (user: string, ...addresses: string[]) => ({
      addresses,
      grants: grantsFor(policy, user, []),
    });
    const script = policyScript({
      tun: "omail0",
      otherwise: [],
      byMember: true,
      tracked: true,
      members: [
        member("alice", "10.8.0.2", "fd08:8::2"),
        member("bob", "10.8.0.3"),
        member("carol", "10.8.0.4"),
      ],
    });
    expect(script).toContain(
      "elements = { 10.8.0.2 : goto member0, 10.8.0.3 : goto member0, 10.8.0.4 : goto member1 }",
    );
    expect(script).toContain("elements = { fd08:8::2 : goto member0 }");
    expect(script).toContain("meta nfproto ipv4 udp dport { 1-9 } accept");
    expect(script.match(/counter drop/g)).toHaveLength(2);
  });

  test("the table's name is the NAT table's with a suffix", () => {
    expect(policyTableName("omail0")).toBe("omail_omail0_policy");
  });
});

describe("PolicyKeeper", () => {
  function keeperOf(
    load: (script: string) => Promise<void>,
    rules: Partial<PolicyRule>[] = [{ who: ["x"] }],
    routesOf: (user: string) => readonly string[] = () => [],
  ) {
    const { log, lines } = memoryLog();
    const options = {
      tun: "omail0",
      nat: false,
      policy: policyOf(rules),
      groupsOf: () => [],
      routesOf,
      load,
      log,
    };
    return { keeper: new PolicyKeeper(options), lines };
  }

  test("changes during a write share the next one, and all wait for theirs", async () => {
    const loaded: string[] = [];
    const { keeper } = keeperOf(async (script) => {
      await Bun.sleep(5);
      loaded.push(script);
    });
    const member = (i: number) => ({ user: "alice", addresses: [`10.8.0.${i}`] });
    const members = Array.from({ length: 20 }, (_, i) => member(i + 2));
    const writes = members.map((_, i) => keeper.setMembers(members.slice(0, i + 1)));
    await writes[0];
    expect(loaded.length).toBeGreaterThan(0);
    await Promise.all(writes);
    await keeper.setMembers(members);
    expect(loaded.length).toBeLessThanOrEqual(2);
    expect(loaded.at(-1)).toContain("10.8.0.21 : goto");
  });

  test("routes that are pushed to one user alone are that user's", async () => {
    const loaded: string[] = [];
    const routesOf = (user: string) => (user === "alice" ? ["172.20.0.0/16"] : []);
    const { keeper } = keeperOf(async (script) => void loaded.push(script), [], routesOf);
    await keeper.setMembers([
      { user: "alice", addresses: ["10.8.0.2"] },
      { user: "bob", addresses: ["10.8.0.3"] },
    ]);
    const script = loaded.at(-1) ?? "";
    const [alice, bob] = ["10.8.0.2", "10.8.0.3"].map((address) => {
      const name = new RegExp(`${address} : goto (\\w+)`).exec(script)?.[1] ?? "";
      return new RegExp(`chain ${name} {([^}]*)}`).exec(script)?.[1] ?? "";
    });
    expect(alice).toContain("172.20.0.0/16");
    expect(bob).not.toContain("172.20.0.0/16");
  });

  test("without rules nobody's coming and going costs a write", async () => {
    const loaded: string[] = [];
    const { keeper } = keeperOf(async (script) => void loaded.push(script), []);
    await keeper.setMembers([{ user: "alice", addresses: ["10.8.0.2"] }]);
    expect(loaded).toEqual([]);
    expect(keeper.required).toBe(false);
    await keeper.setPolicy(policyOf([{ who: ["alice"] }]));
    expect(loaded).toHaveLength(1);
  });

  test("a failed write is told, and tried again with the next change", async () => {
    let broken = true;
    const loaded: string[] = [];
    const { keeper, lines } = keeperOf(async (script) => {
      if (broken) throw new Error("no nft");
      loaded.push(script);
    });
    await keeper.setMembers([{ user: "a", addresses: ["10.8.0.2"] }]);
    expect(lines).toMatchObject([{ level: "error" }]);
    broken = false;
    await keeper.setMembers([{ user: "a", addresses: ["10.8.0.2"] }]);
    expect(loaded).toHaveLength(1);
  });
});
