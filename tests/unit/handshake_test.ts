import { expect, test } from "bun:test";
import type { ClientMessage, Hello, ServerMessage } from "../../lib/control_message.ts";
import { OmailError, ProtocolError, RefusedError } from "../../lib/errors.ts";
import type { KeyExporter } from "../../lib/handshake.ts";
import { ClientHandshake, type ClientHandshakeOptions } from "../../lib/handshake_client.ts";
import { type HandshakePolicy, ServerHandshake, type SessionGrant } from "../../lib/handshake_server.ts";
import { sha256 } from "../../lib/hash.ts";
import { fakeVerifier, makeVerifier, PasswordKeys } from "../../lib/password.ts";
import { fits } from "../support/control_harness.ts";

const ITERATIONS = 4096;
const keys = new PasswordKeys("pencil");
const verifier = await makeVerifier("pencil", new Uint8Array(16).fill(3), ITERATIONS);
const random = (length: number) => crypto.getRandomValues(new Uint8Array(length));

/** What stands in for one TLS connection: both ends export the same, every connection something else. */
function connectionExporter(secret: string): KeyExporter {
  return (label, context) =>
    Uint8Array.from(new Bun.CryptoHasher("sha256").update(`${secret} ${label}`).update(context).digest());
}

const grant: SessionGrant = {
  config: {
    sessionId: 77,
    addresses: ["10.8.0.2/24"],
    mtu: 1420,
    routes: [],
    dns: [],
    timers: { keepaliveMs: 10_000, sessionTimeoutMs: 60_000, rekeyAfterMs: 120_000 },
    features: { offload: true },
  },
  resumeToken: new Uint8Array(32).fill(1),
  lastEpoch: -1,
};

/** A server with the user `alice` and one token of 32 nines. */
class TestPolicy implements HandshakePolicy {
  readonly opened: string[] = [];
  /** The one-time code that alice needs; null when none. */
  code: string | null = null;

  needsCode = () => this.code !== null;

  acceptCode = (_user: string, code: string) => {
    const isRight = code === this.code;
    if (isRight) this.code = "used";
    return isRight;
  };

  verifierOf = (user: string) =>
    user === "alice" ? Promise.resolve(verifier) : fakeVerifier(new Uint8Array(32), user);

  openSession = (user: string) => {
    this.opened.push(user);
    return Promise.resolve(grant);
  };

  resumeSession = (token: Uint8Array) =>
    Promise.resolve(token.every((byte) => byte === 9) ? { ...grant, lastEpoch: 4 } : null);
}

const token = (byte: number) => ({ sessionId: 77, token: new Uint8Array(32).fill(byte), nextEpoch: 5 });

function clientOf(options: Partial<ClientHandshakeOptions> = {}): ClientHandshake {
  return new ClientHandshake({
    user: "alice",
    password: () => Promise.resolve(keys),
    client: "test",
    offload: true,
    wantedAddresses: [],
    resume: null,
    exporter: connectionExporter("tls"),
    random,
    ...options,
  });
}

const serverOf = (policy: HandshakePolicy = new TestPolicy(), secret = "tls"): ServerHandshake =>
  new ServerHandshake(policy, connectionExporter(secret), random);

/** Runs a log-in; `change` may tamper with what the server says. */
async function run(
  client: ClientHandshake,
  server: ServerHandshake,
  change: (message: ServerMessage) => ServerMessage = (message) => message,
) {
  const types: string[] = [];
  let message: ClientMessage = await client.start();
  for (;;) {
    types.push(message.type);
    const step = await server.receive(message);
    if (step.kind === "refuse") return { types, refusal: step.refusal };
    types.push(step.message.type);
    const next = await client.receive(change(step.message));
    if ("established" in next) {
      if (step.kind !== "established") throw new Error("the client is ahead of the server");
      return { types, client: next.established, server: step };
    }
    message = next.send;
  }
}

test("a full log-in takes two round trips and gives both ends the same keys and session", async () => {
  const policy = new TestPolicy();
  const { types, client, server } = await run(clientOf(), serverOf(policy));
  expect(types).toEqual(["hello", "challenge", "proof", "welcome"]);
  expect(client?.config).toEqual(grant.config);
  expect(client?.resumed).toBe(false);
  expect(client?.keys.epoch).toBe(0);
  expect(await fits(client!.keys, server!.keys)).toBe(true);
  expect(await fits(server!.keys, client!.keys)).toBe(true);
  expect(policy.opened).toEqual(["alice"]);
});

test("a resumption takes one round trip, with fresh keys of the epoch asked for", async () => {
  const { types, client, server } = await run(clientOf({ resume: token(9) }), serverOf());
  expect(types).toEqual(["hello", "welcome"]);
  expect([client?.resumed, client?.keys.epoch]).toEqual([true, 5]);
  expect(await fits(client!.keys, server!.keys)).toBe(true);
});

test("an unknown token leads to a full log-in on the same connection", async () => {
  const { types, client } = await run(clientOf({ resume: token(8) }), serverOf());
  expect(types).toEqual(["hello", "resume-failed", "hello", "challenge", "proof", "welcome"]);
  expect([client?.resumed, client?.keys.epoch]).toEqual([false, 0]);
});

test("ServerHandshake refuses a wrong password and an unknown user with the same words", async () => {
  const policy = new TestPolicy();
  const wrong = await run(
    clientOf({ password: () => Promise.resolve(new PasswordKeys("ink")) }),
    serverOf(policy),
  );
  // the fake verifier costs 600,000 iterations: a stand-in answers for them
  const cheap = { keysFor: () => keys.keysFor(new Uint8Array(16), ITERATIONS) } as unknown as PasswordKeys;
  const unknown = await run(
    clientOf({ user: "mallory", password: () => Promise.resolve(cheap) }),
    serverOf(policy),
  );
  expect(wrong.refusal).toEqual({
    code: "refused",
    reason: "The user name or the password is wrong",
    guessed: true,
  });
  expect(unknown.refusal).toEqual(wrong.refusal);
  expect(unknown.types).toEqual(wrong.types);
  expect(policy.opened).toEqual([]);
});

test("ServerHandshake refuses a user who was removed between challenge and proof", async () => {
  const policy = new TestPolicy();
  const present = policy.verifierOf;
  let asked = 0;
  policy.verifierOf = (user) => (++asked === 1 ? present(user) : fakeVerifier(new Uint8Array(32), user));
  const { refusal } = await run(clientOf(), serverOf(policy));
  expect(refusal?.code).toBe("refused");
  expect(policy.opened).toEqual([]);
});

test("a second factor is asked for after the password, and both ends have the same keys then", async () => {
  const policy = new TestPolicy();
  policy.code = "123456";
  const { types, client, server } = await run(
    clientOf({ code: () => Promise.resolve("123456") }),
    serverOf(policy),
  );
  expect(types).toEqual(["hello", "challenge", "proof", "totp-request", "totp", "welcome"]);
  expect(await fits(client!.keys, server!.keys)).toBe(true);
  // not asked at a resumption
  const resumed = await run(clientOf({ resume: token(9) }), serverOf(policy));
  expect(resumed.types).toEqual(["hello", "welcome"]);
});

test("a wrong one-time code is refused, and a wrong password is not told that there is one", async () => {
  const policy = new TestPolicy();
  policy.code = "123456";
  const code = () => Promise.resolve("654321");
  const wrong = await run(clientOf({ code }), serverOf(policy));
  expect(wrong.refusal).toMatchObject({
    code: "refused",
    reason: "The one-time code is wrong or was used before",
    guessed: true,
  });
  const password = () => Promise.resolve(new PasswordKeys("ink"));
  const { types, refusal } = await run(clientOf({ code, password }), serverOf(policy));
  expect(types).toEqual(["hello", "challenge", "proof"]);
  expect(refusal?.reason).toBe("The user name or the password is wrong");
  expect(policy.opened).toEqual([]);
});

test("ClientHandshake gives no code to a server that has not proved itself, and none twice", async () => {
  const policy = new TestPolicy();
  policy.code = "123456";
  let asked = 0;
  const code = () => Promise.resolve(String(++asked));
  const forge = (message: ServerMessage): ServerMessage =>
    message.type === "totp-request" ? { ...message, scram: `v=${"A".repeat(43)}=` } : message;
  const forged = await run(clientOf({ code }), serverOf(policy), forge).catch((reason: unknown) => reason);
  expect(forged).toBeInstanceOf(RefusedError);
  expect(asked).toBe(0);
  const client = clientOf();
  await client.start();
  await expect(client.receive({ type: "totp-request", scram: "v=" })).rejects.toThrow("expected challenge");
  const resuming = clientOf({ resume: token(9), code });
  await resuming.start();
  await expect(resuming.receive({ type: "totp-request", scram: "v=" })).rejects.toThrow("expected welcome");
  expect(asked).toBe(0);
});

test("ServerHandshake takes nothing but the code when it has asked for one", async () => {
  const policy = new TestPolicy();
  policy.code = "123456";
  const server = serverOf(policy);
  const client = clientOf({ code: () => Promise.resolve("123456") });
  const challenge = await server.receive(await client.start());
  if (challenge.kind !== "reply") throw new Error("expected a challenge");
  const proof = await client.receive(challenge.message);
  if (!("send" in proof)) throw new Error("expected a proof");
  await server.receive(proof.send);
  await expect(server.receive(proof.send)).rejects.toThrow('Cannot use message "proof" now: expected totp');
  const early = serverOf(policy);
  await expect(early.receive({ type: "totp", code: "123456" })).rejects.toThrow("expected hello");
});

test("a log-in relayed between two TLS connections is refused", async () => {
  const { refusal } = await run(clientOf(), serverOf(new TestPolicy(), "another connection"));
  expect(refusal?.code).toBe("refused");
});

test("ClientHandshake believes no welcome without the server's signature", async () => {
  const strip = (message: ServerMessage): ServerMessage => {
    if (message.type !== "welcome") return message;
    const { scram: _scram, ...rest } = message;
    return rest;
  };
  const forge = (message: ServerMessage): ServerMessage =>
    message.type === "welcome" ? { ...message, scram: `v=${"A".repeat(43)}=` } : message;
  for (const change of [strip, forge]) {
    const error = await run(clientOf(), serverOf(), change).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(RefusedError);
    expect(String(error)).toContain(`could not prove that it knows the password of user "alice"`);
  }
});

test("ClientHandshake does not take a welcome in place of a challenge", async () => {
  const client = clientOf();
  await client.start();
  const { server } = await run(clientOf({ resume: token(9) }), serverOf());
  await expect(client.receive(server!.message)).rejects.toThrow(`"welcome" now: expected challenge`);
});

test("ClientHandshake refuses to be resumed into another session", async () => {
  const swap = (message: ServerMessage): ServerMessage =>
    message.type === "welcome" ? { ...message, config: { ...message.config, sessionId: 78 } } : message;
  await expect(run(clientOf({ resume: token(9) }), serverOf(), swap)).rejects.toBeInstanceOf(ProtocolError);
});

test("ClientHandshake takes no message twice and no message of later", async () => {
  const strangers: ServerMessage[] = [
    { type: "resume-failed" },
    { type: "rekey-request" },
    { type: "ping" },
    { type: "goodbye", code: "bye", reason: "" },
  ];
  for (const message of strangers) {
    const client = clientOf();
    await client.start();
    await expect(client.receive(message)).rejects.toBeInstanceOf(ProtocolError);
  }
});

test("ServerHandshake refuses other versions, a first epoch above 0, and used epochs", async () => {
  const hello = (await clientOf().start()) as Hello;
  await expect(serverOf().receive({ ...hello, version: 2 })).rejects.toThrow(`version "2": expected 1`);
  const late = { ...hello, keyShare: { ...hello.keyShare, epoch: 1 } };
  await expect(serverOf().receive(late)).rejects.toThrow(`epoch "1": expected 0`);
  const used = clientOf({ resume: { ...token(9), nextEpoch: 4 } });
  await expect(serverOf().receive(await used.start())).rejects.toThrow(`epoch "4": expected more than 4`);
});

test("ServerHandshake lets a connection try one token only", async () => {
  const server = serverOf();
  const hello = await clientOf({ resume: token(8) }).start();
  expect(await server.receive(hello)).toEqual({ kind: "reply", message: { type: "resume-failed" } });
  await expect(server.receive(hello)).rejects.toBeInstanceOf(ProtocolError);
});

test("ServerHandshake lets a challenge be answered once", async () => {
  const server = serverOf();
  const client = clientOf();
  const challenge = await server.receive(await client.start());
  if (challenge.kind !== "reply") throw new Error("expected a challenge");
  const proof = await client.receive(challenge.message);
  if (!("send" in proof)) throw new Error("expected a proof");
  expect((await server.receive(proof.send)).kind).toBe("established");
  await expect(server.receive(proof.send)).rejects.toThrow("expected hello");
});

test("a log-in with any one character of a SCRAM text changed never succeeds", async () => {
  const flip = (text: string, at: number): string => {
    const changed = text[at] === "A" ? "B" : "A";
    return text.slice(0, at) + changed + text.slice(at + 1);
  };
  for (let at = 0; at < 60; at += 7) {
    const change = (message: ServerMessage): ServerMessage =>
      message.type === "challenge" ? { ...message, scram: flip(message.scram, at) } : message;
    // some changes ask for other iterations: a stand-in keeps them cheap
    const cheap = { keysFor: () => keys.keysFor(new Uint8Array(16), ITERATIONS) } as unknown as PasswordKeys;
    const end = await run(clientOf({ password: () => Promise.resolve(cheap) }), serverOf(), change).catch(
      (error: unknown) => error,
    );
    if (end instanceof Error) expect(end).toBeInstanceOf(OmailError);
    else expect(end).toHaveProperty("refusal");
  }
});

test("sha256() is SHA-256", async () => {
  // FIPS 180-4 example: "abc"
  const digest = await sha256(Uint8Array.from([97, 98, 99]));
  expect(digest.toHex()).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});
