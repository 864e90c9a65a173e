import { expect, test } from "bun:test";
import { parseConfigText } from "../../lib/config.ts";
import { makeServerConfig, readServerSettings } from "../../lib/config_server.ts";
import { UsageError } from "../../lib/errors.ts";

async function configOf(text: string) {
  const layer = await parseConfigText(text, "server.toml");
  return makeServerConfig(readServerSettings([layer]).values, null);
}

const USER = '[[users]]\nname = "alice"\npassword = "x"\n';

test("[[policy]] entries become rules, [[users]] have groups and lists", async () => {
  const config = await configOf(`
policy-default = "none"
${USER}groups = ["staff", "ops"]
deny-from = "192.0.2.0/24"
[[policy]]
who = "@staff, bob"
networks = ["clients", "192.168.5.0/24"]
proto = "tcp"
ports = ["22", "8000-8100"]
[[policy]]
networks = "all"
proto = "udp"
ports = 53
`);
  expect(config.policyDefault).toBe("none");
  expect(config.users[0]).toMatchObject({
    groups: ["staff", "ops"],
    denyFrom: ["192.0.2.0/24"],
    allowFrom: [],
  });
  expect(config.policy).toEqual([
    {
      who: ["@staff", "bob"],
      networks: ["clients", "192.168.5.0/24"],
      proto: "tcp",
      ports: [
        { from: 22, to: 22 },
        { from: 8000, to: 8100 },
      ],
    },
    { who: ["*"], networks: ["all"], proto: "udp", ports: [{ from: 53, to: 53 }] },
  ]);
});

test.each([
  ['networks = "192.168.5.1/24"', "192.168.5.0/24"],
  ['networks = "everywhere"', "all, pushed, server or clients"],
  ['networks = "all"\nwho = "@"', '"@"'],
  ['networks = "all"\nproto = "sctp"', '"sctp"'],
  ['networks = "all"\nports = "80"', 'proto = "tcp"'],
  ['networks = "all"\nproto = "tcp"\nports = "0"', '"0"'],
  ['networks = "all"\nproto = "tcp"\nports = "90-80"', '"90-80"'],
  ['networks = "all"\nproto = "tcp"\nports = "http"', '"http"'],
  ['networks = "all"\nport = 80', 'did you mean "ports"'],
])("refuses %p and says what would be right", async (entry, said) => {
  const error = await configOf(`${USER}[[policy]]\n${entry}\n`).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(UsageError);
  expect(String(error)).toContain(said);
});

test("refuses a group that could pass for something else", async () => {
  const error = await configOf(`${USER}groups = "@staff"\n`).catch((reason: unknown) => reason);
  expect(String(error)).toContain('"@staff" as a group');
});
