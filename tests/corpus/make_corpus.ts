/** Makes the files of this folder from what the program's own encoders and the test vectors give. */

import { join } from "node:path";
import { CHAIN_START, encodeAuditLine } from "../../lib/audit_chain.ts";
import { makeKey, makeRequest } from "../../lib/ca_issue.ts";
import { makeSelfSignedCertificate } from "../../lib/certificate.ts";
import { encodeFrame } from "../../lib/control_frame.ts";
import { type ClientMessage, encodeMessage, type ServerMessage } from "../../lib/control_message.ts";
import { formatEnrolUri } from "../../lib/enrol_uri.ts";
import { encodeProfile } from "../../lib/profile.ts";
import { answerExchange, startExchange } from "../../lib/key_schedule.ts";
import { parseAddress } from "../../lib/address.ts";
import record from "../vectors/record.json";
import { buildPacket, kernelVnet, type PacketParts, withVnet } from "../support/inner_packet.ts";

const ROOT = import.meta.dir;

async function put(decoder: string, name: string, content: Uint8Array | string): Promise<void> {
  await Bun.write(join(ROOT, decoder, name), content);
}

const text = (length: number): Uint8Array<ArrayBuffer> =>
  Uint8Array.from({ length }, (_, i) => 97 + (i % 26));

for (const { name, datagrams, parities, plaintext } of record.records) {
  const file = name.replaceAll(" ", "-");
  const pieces = datagrams.map((hex) => Uint8Array.fromHex(hex));
  await put("datagram", file, Buffer.concat(pieces));
  for (const [i, group] of parities.entries()) {
    const ahead = group.map((hex) => Uint8Array.fromHex(hex));
    await put("datagram", `${file}-with-${i + 1}-parities`, Buffer.concat([...ahead, ...pieces]));
    await put(
      "datagram",
      `${file}-with-${i + 1}-parities-one-lost`,
      Buffer.concat([...ahead, ...pieces.slice(1)]),
    );
  }
  if (name.includes("packet") && !name.includes("super"))
    await put("record", file, Uint8Array.fromHex(plaintext));
}

const PACKETS: Readonly<Record<string, PacketParts>> = {
  tcp4: { version: 4, protocol: "tcp", payload: text(80) },
  "tcp4-options": { version: 4, protocol: "tcp", ipOptions: text(8), tcpOptions: text(12), payload: text(9) },
  udp4: { version: 4, protocol: "udp", payload: text(40) },
  "udp4-fragment": { version: 4, protocol: "udp", fragment: 0x2000, payload: text(40) },
  tcp6: { version: 6, protocol: "tcp", payload: text(80) },
  udp6: { version: 6, protocol: "udp", payload: text(40) },
};
for (const [name, parts] of Object.entries(PACKETS)) {
  await put("packet", name, buildPacket(parts));
  if (name.includes("fragment")) continue;
  const unfinished = { ...parts, checksum: "pseudo" } as const;
  await put("virtio_header", `${name}-checksum`, withVnet(buildPacket(unfinished), kernelVnet(parts)));
  const large = { ...unfinished, payload: text(3_000) };
  await put("virtio_header", `${name}-super`, withVnet(buildPacket(large), kernelVnet(large, 1_000)));
}
await put("virtio_header", "plain", withVnet(buildPacket(PACKETS["udp4"]!)));

const exchange = await startExchange(0);
const answer = await answerExchange(exchange.share);
const features = { offload: true };
const fromClient: Readonly<Record<string, ClientMessage>> = {
  hello: {
    type: "hello",
    version: 1,
    client: "omail-client 0.1.0",
    features,
    addresses: ["10.8.0.2", "fd00::2"],
    auth: { scram: "p=tls-exporter,,n=alice,r=rOprNGfwEbeRWgbNEkqO" },
    keyShare: exchange.share,
  },
  "hello-resume": {
    type: "hello",
    version: 1,
    client: "omail-client 0.1.0",
    features,
    addresses: [],
    auth: { resume: new Uint8Array(32).fill(7) },
    keyShare: exchange.share,
  },
  proof: { type: "proof", scram: "c=biws,r=abcdefgh,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=" },
  "hello-certificate": {
    type: "hello",
    version: 1,
    client: "omail-client 0.1.0",
    features,
    addresses: [],
    auth: { certificate: true },
    keyShare: exchange.share,
  },
  enrol: {
    type: "enrol",
    version: 1,
    token: new Uint8Array(16).fill(5),
    request: new Uint8Array(300).fill(6),
  },
  rekey: { type: "rekey", keyShare: { ...exchange.share, epoch: 3 } },
  ping: { type: "ping" },
  pong: { type: "pong" },
  goodbye: { type: "goodbye", code: "bye", reason: "the client leaves" },
};
const fromServer: Readonly<Record<string, ServerMessage>> = {
  challenge: { type: "challenge", scram: "r=abcdefgh,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=600000" },
  enrolled: {
    type: "enrolled",
    profile: '{"omail-profile":1,"name":"alice"}',
    certificate: new Uint8Array(400).fill(8),
  },
  "resume-failed": { type: "resume-failed" },
  welcome: {
    type: "welcome",
    scram: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    config: {
      sessionId: 7,
      addresses: ["10.8.0.2/24", "fd00::2/64"],
      mtu: 1420,
      routes: ["192.168.7.0/24"],
      dns: ["10.8.0.1"],
      timers: { keepaliveMs: 10_000, sessionTimeoutMs: 60_000, rekeyAfterMs: 120_000 },
      features,
    },
    resumeToken: new Uint8Array(32).fill(9),
    keyShare: answer.server,
  },
  "rekey-request": { type: "rekey-request" },
  "rekey-reply": { type: "rekey-reply", keyShare: answer.server },
};
for (const [name, message] of Object.entries({ ...fromClient, ...fromServer })) {
  const folder = name in fromClient ? "control_message_client" : "control_message_server";
  const body = encodeMessage(message);
  await put(folder, name, body);
  await put("control_frame", name, encodeFrame(body));
}

for (const [name, message] of Object.entries({
  "client-first": "p=tls-exporter,,n=user=2Cname,r=rOprNGfwEbeRWgbNEkqO",
  "server-first": "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
  "client-final":
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
  "server-final": "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
}))
  await put("scram", name, message);

await put(
  "server_configuration",
  "full.toml",
  `address = "[::]:51820"
tun-ip = "10.8.0.1/24"
tun-ip6 = "fd08:8::1/64"
nat = true
mtu = 1420
push-route = ["192.168.5.0/24", "2001:db8::/32"]
push-dns = "10.8.0.1"
keepalive = "10s"
deny-from = ["192.0.2.0/24"]

[[users]]
name = "alice"
password = "correct horse"
groups = ["staff"]

[[policy]]
who = "@staff"
networks = ["192.168.5.0/24", "clients"]
proto = "tcp"
ports = ["22", "8000-8100"]
`,
);
await put(
  "client_configuration",
  "full.toml",
  `server = ["vpn.example.org:443", "[2001:db8::1]:51820"]
user = "alice"
password-file = "secret"
split-tunnel = ["10.0.0.0/8", "fd00::/8"]
keepalive = "5s"
`,
);
await put(
  "profile",
  "full",
  encodeProfile({
    name: "alice",
    server: ["vpn.example.org:443", "[2001:db8::1]:51820"],
    user: "alice",
    auth: "cert",
    pin: ["AB:".repeat(31) + "AB"],
    cert: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    key: "-----BEGIN PRIVATE KEY-----\nMIIC\n-----END PRIVATE KEY-----\n",
    "split-tunnel": ["10.0.0.0/8", "fd00::/8"],
    "allow-lan": true,
    "kill-switch": true,
    dns: ["10.8.0.1"],
  }),
);
await put(
  "enrol_uri",
  "token",
  formatEnrolUri({
    server: { host: "vpn.example.org", port: 51820 },
    token: new Uint8Array(16).fill(5),
    pin: "AB:".repeat(31) + "AB",
  }),
);
const header = { version: 1, bootId: "b", pid: 1, startTime: "2", tun: "omail0", netns: "net:[1]" };
const steps = [
  { kind: "rule", family: 4, selector: ["from", "all", "lookup", "51820"] },
  { kind: "route", family: 6, route: ["::/0", "dev", "omail0"] },
  { kind: "nft-table", table: "omail_omail0" },
  { kind: "resolv-conf", path: "/etc/resolv.conf", previous: { type: "symlink", target: "x" }, written: "y" },
];
await put("journal", "steps", [header, ...steps].map((line) => `${JSON.stringify(line)}\n`).join(""));

const first = encodeAuditLine(CHAIN_START, 1_700_000_000_000, { type: "started", version: "0.1.0" });
const second = encodeAuditLine(first.end, 1_700_000_000_001, {
  type: "refused",
  user: "eve",
  endpoint: "192.0.2.1:4711",
  reason: "The user name or the password is wrong",
});
await put("audit_log", "two-lines", first.line + second.line);
await put("admin_request", "kick-session", '{"session":7}');
await put("admin_request", "kick-user", '{"user":"alice"}');
await put("admin_request", "unban", `{"value":"${parseAddress("2001:db8::1").text}"}`);
const pair = await makeSelfSignedCertificate({
  name: "corpus",
  hosts: ["localhost", "127.0.0.1"],
  nowMs: Date.now(),
  validDays: 36_500,
});
await put("certificate", "self-signed.pem", pair.certPem);
await put("signing_request", "p256", await makeRequest(await makeKey(), "corpus"));
for (const [name, address] of Object.entries({
  v4: "10.8.0.1/24",
  v6: "2001:db8::/32",
  endpoint: "[2001:db8::1]:51820",
}))
  await put("address", name, address);
