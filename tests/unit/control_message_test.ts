import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  type ClientMessage,
  decodeClientMessage,
  decodeServerMessage,
  encodeMessage,
  goodbyeMessage,
  MAX_REASON_LENGTH,
  type ServerMessage,
  type Welcome,
} from "../../lib/control_message.ts";
import { ProtocolError } from "../../lib/errors.ts";
import { bytes, check } from "../support/property.ts";

const clientShare = { epoch: 0, x25519: new Uint8Array(32).fill(1), mlkem768: new Uint8Array(1184).fill(2) };
const serverShare = { epoch: 0, x25519: new Uint8Array(32).fill(3), mlkem768: new Uint8Array(1088).fill(4) };

const clientMessages: readonly ClientMessage[] = [
  {
    type: "hello",
    version: 1,
    client: "omail-client 0.1.0",
    features: { offload: true },
    addresses: ["10.8.0.2", "fd00::2"],
    auth: { scram: "p=tls-exporter,,n=user,r=abc" },
    keyShare: clientShare,
  },
  {
    type: "hello",
    version: 1,
    client: "",
    features: { offload: false },
    addresses: [],
    auth: { resume: new Uint8Array(32).fill(9) },
    keyShare: clientShare,
  },
  {
    type: "hello",
    version: 1,
    client: "",
    features: { offload: false },
    addresses: [],
    auth: { certificate: true },
    keyShare: clientShare,
  },
  { type: "enrol", version: 1, token: new Uint8Array(16).fill(7), request: new Uint8Array(200).fill(8) },
  { type: "proof", scram: "c=biws,r=x,p=y" },
  { type: "rekey", keyShare: clientShare },
  { type: "ping" },
  { type: "pong" },
  { type: "goodbye", code: "bye", reason: "" },
];

const welcome: Welcome = {
  type: "welcome",
  scram: "v=x",
  config: {
    sessionId: 0xffff_ffff,
    addresses: ["10.8.0.2/24"],
    mtu: 1420,
    routes: ["192.168.0.0/16"],
    dns: ["10.8.0.1"],
    timers: { keepaliveMs: 10_000, sessionTimeoutMs: 60_000, rekeyAfterMs: 120_000 },
    features: { offload: true },
  },
  resumeToken: new Uint8Array(32).fill(5),
  keyShare: serverShare,
};
const serverMessages: readonly ServerMessage[] = [
  { type: "challenge", scram: "r=a,s=b,i=4096" },
  { type: "enrolled", profile: '{"omail-profile":1}', certificate: new Uint8Array(500).fill(6) },
  { type: "resume-failed" },
  welcome,
  { type: "rekey-request" },
  { type: "rekey-reply", keyShare: serverShare },
  { type: "ping" },
  { type: "pong" },
  { type: "goodbye", code: "shutdown", reason: "back soon" },
];

const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
/** A message as it is on the wire. */
const plain = (message: ClientMessage | ServerMessage): Record<string, unknown> =>
  JSON.parse(new TextDecoder().decode(encodeMessage(message)));

test("decodeClientMessage() and decodeServerMessage() give back what encodeMessage() was given", () => {
  for (const message of clientMessages) expect(decodeClientMessage(encodeMessage(message))).toEqual(message);
  for (const message of serverMessages) expect(decodeServerMessage(encodeMessage(message))).toEqual(message);
});

test("encodeMessage() writes byte strings as base64", () => {
  expect(plain(welcome)["resumeToken"]).toBe("BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=");
});

test("decodeClientMessage() refuses every true prefix of a message", () => {
  for (const message of clientMessages) {
    const body = encodeMessage(message);
    for (let length = 0; length < body.length; length += Math.max(1, Math.floor(body.length / 50))) {
      expect(() => decodeClientMessage(body.subarray(0, length))).toThrow(ProtocolError);
    }
  }
});

test("decodeClientMessage() and decodeServerMessage() throw nothing but ProtocolError on random bytes and JSON", () => {
  const isRefused = (decode: (body: Uint8Array) => unknown, body: Uint8Array): void => {
    try {
      decode(body);
    } catch (error) {
      expect(error).toBeInstanceOf(ProtocolError);
    }
  };
  const jsonBytes = fc.json().map((text) => Uint8Array.from(new TextEncoder().encode(text)));
  check(
    fc.property(fc.oneof(bytes(0, 100), jsonBytes), (body) => {
      isRefused(decodeClientMessage, body);
      isRefused(decodeServerMessage, body);
    }),
  );
});

test("decodeServerMessage() refuses a message with a key too many or too few, and names it", () => {
  for (const message of serverMessages) {
    expect(() => decodeServerMessage(json({ ...plain(message), surprise: 1 }))).toThrow(/surprise/);
    for (const key of Object.keys(message)) {
      if (key === "scram" && message.type === "welcome") continue;
      const { [key]: _left, ...rest } = plain(message);
      expect(() => decodeServerMessage(json(rest))).toThrow(ProtocolError);
    }
  }
});

test("decodeServerMessage() refuses wrong values of a configuration", () => {
  const wrong: Record<string, unknown>[] = [
    { sessionId: 0 },
    { sessionId: 2 ** 32 },
    { sessionId: 1.5 },
    { addresses: [] },
    { addresses: ["10.8.0.2/33"] },
    { addresses: ["010.8.0.2/24"] },
    { mtu: 100 },
    { mtu: "1420" },
    { routes: ["10.0.0.1/8"] },
    { routes: Array.from({ length: 1025 }, () => "10.0.0.0/8") },
    { dns: ["dns.example"] },
    { searchDomains: ["two words"] },
    { searchDomains: Array.from({ length: 33 }, () => "a.example") },
    { features: {} },
    { timers: { keepaliveMs: -1, sessionTimeoutMs: 1, rekeyAfterMs: 1000 } },
  ];
  for (const change of wrong) {
    const body = json({ ...plain(welcome), config: { ...welcome.config, ...change } });
    expect(() => decodeServerMessage(body)).toThrow(ProtocolError);
  }
});

test("decodeServerMessage() takes search domains, and says which value it refuses", () => {
  const body = (change: object) => json({ ...plain(welcome), config: { ...welcome.config, ...change } });
  const decoded = decodeServerMessage(body({ searchDomains: ["corp.example"] }));
  expect(decoded).toMatchObject({ config: { searchDomains: ["corp.example"] } });
  expect(() => decodeServerMessage(body({ dns: ["dns.example"] }))).toThrow(
    'at "config.dns.0": Invalid value: Expected an address but received "dns.example"',
  );
  expect(() => decodeServerMessage(body({ mtu: 10 }))).toThrow('"config.mtu": Invalid value: Expected >=576');
});

test("decodeClientMessage() refuses base64 of another length or form", () => {
  const good = Buffer.alloc(32, 1).toString("base64");
  const forms = [
    good.slice(0, -1),
    ` ${good}`,
    `${good}AAAA`,
    good.replace("=", "!"),
    "",
    Buffer.alloc(31).toString("base64"),
  ];
  for (const x25519 of forms) {
    const message = {
      type: "rekey",
      keyShare: { ...(plain(clientMessages[3]!)["keyShare"] as object), x25519 },
    };
    expect(() => decodeClientMessage(json(message))).toThrow(ProtocolError);
  }
});

test("goodbyeMessage() makes reasons that its decoder takes: short and printable", () => {
  const message = goodbyeMessage("internal", `\u001b[31m${"x".repeat(1000)}`);
  expect(message.reason).toHaveLength(MAX_REASON_LENGTH);
  expect(decodeServerMessage(encodeMessage(message))).toEqual(message);
  expect(() => decodeServerMessage(json({ type: "goodbye", code: "bye", reason: "\u001b[31m" }))).toThrow(
    ProtocolError,
  );
});

test("decodeClientMessage() bounds an enrolment: token of 16 bytes, request of 1 to 2,048", () => {
  const enrol = (token: number, request: number) =>
    json({
      type: "enrol",
      version: 1,
      token: new Uint8Array(token).toBase64(),
      request: new Uint8Array(request).toBase64(),
    });
  decodeClientMessage(enrol(16, 2048));
  for (const [token, request] of [
    [15, 100],
    [17, 100],
    [16, 0],
    [16, 2049],
  ] as const) {
    expect(() => decodeClientMessage(enrol(token, request))).toThrow(
      /^Cannot read control message at "(token|request)"/,
    );
  }
  const noCertificate = { ...plain(clientMessages[2]!), auth: { certificate: false } };
  expect(() => decodeClientMessage(json(noCertificate))).toThrow(ProtocolError);
});

test("a zero below zero is no epoch: written again it would be another message", () => {
  const message = new TextDecoder().decode(encodeMessage({ type: "rekey", keyShare: clientShare }));
  const body = (epoch: string) => new TextEncoder().encode(message.replace('"epoch":0', `"epoch":${epoch}`));
  expect(decodeClientMessage(body("0"))).toMatchObject({ keyShare: { epoch: 0 } });
  expect(() => decodeClientMessage(body("-0"))).toThrow(ProtocolError);
});
