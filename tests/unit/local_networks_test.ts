import { describe, expect, test } from "bun:test";
import { localNetworks } from "../../lib/local_networks.ts";

const LINKS = JSON.stringify([
  { ifname: "lo" },
  { ifname: "eth0" },
  { ifname: "docker0", linkinfo: { info_kind: "bridge" } },
  { ifname: "br0", linkinfo: { info_kind: "bridge" } },
  { ifname: "omail0", linkinfo: { info_kind: "tun" } },
  { ifname: "omail1", linkinfo: { info_kind: "tun" } },
]);
const ROUTES4 = [
  { dst: "default", gateway: "192.168.1.1", dev: "br0" },
  { dst: "192.168.1.0/24", dev: "br0", protocol: "kernel", scope: "link" },
  { dst: "172.17.0.0/16", dev: "docker0", protocol: "kernel", scope: "link" },
  { dst: "10.8.0.0/24", dev: "omail0", protocol: "kernel" },
  { dst: "10.9.0.0/24", dev: "omail1", protocol: "kernel" },
  { dst: "192.168.77.0/24", dev: "omail1" },
  { type: "unreachable", dst: "10.99.0.0/16", flags: [] },
];

function read(routes4: readonly object[], routes6: readonly object[] = []) {
  const output = { links: LINKS, routes4: JSON.stringify(routes4), routes6: JSON.stringify(routes6) };
  const { inside, insideDevices, tunnels, lan } = localNetworks(output, "omail0");
  return { inside: inside.map(({ text }) => text), insideDevices, tunnels, lan: lan.map(({ text }) => text) };
}

/** The local networks of a machine whose only interface has these connected networks. */
function lanOf(...networks: readonly string[]): readonly string[] {
  const routes = networks.map((dst) => ({ dst, dev: "eth0", protocol: "kernel" }));
  return read(
    routes.filter(({ dst }) => !dst.includes(":")),
    routes.filter(({ dst }) => dst.includes(":")),
  ).lan;
}

describe("localNetworks", () => {
  test("bridges and other tunnels are inside, unless the default route goes by them", () => {
    expect(read(ROUTES4)).toEqual({
      inside: ["172.17.0.0/16", "10.9.0.0/24", "192.168.77.0/24"],
      insideDevices: ["docker0", "omail1"],
      tunnels: ["omail1"],
      lan: ["192.168.1.0/24"],
    });
  });

  test("a route that DHCP gave is no local network: it could draw traffic out of the tunnel", () => {
    const drawn = { dst: "198.51.100.0/24", dev: "eth0", protocol: "dhcp", scope: "link" };
    const viaRouter = { dst: "10.50.0.0/16", gateway: "192.168.1.9", dev: "br0", protocol: "kernel" };
    expect(read([...ROUTES4, drawn, viaRouter]).lan).toEqual(["192.168.1.0/24"]);
  });

  test("an access point cannot claim large public networks", () => {
    expect(lanOf("10.0.0.0/8", "100.64.0.0/10", "198.51.100.0/24")).toHaveLength(3);
    expect(lanOf("128.0.0.0/1", "198.51.0.0/16", "2001:db8::/32")).toEqual([]);
    expect(lanOf("2001:db8:1::/64")).toEqual(["2001:db8:1::/64"]);
  });

  test("link-local IPv6 and multicast have no rule by destination", () => {
    expect(lanOf("fe80::/64", "ff00::/8")).toEqual([]);
  });

  test("no output is no network; what is not a route is passed over", () => {
    expect(localNetworks({ links: "", routes4: "", routes6: "" }, "omail0").lan).toEqual([]);
    expect(read([{ dst: "broken", dev: "eth0", protocol: "kernel" }, { dst: 7 }]).lan).toEqual([]);
    expect(() => localNetworks({ links: "{", routes4: "", routes6: "" }, "omail0")).toThrow(SyntaxError);
  });
});
