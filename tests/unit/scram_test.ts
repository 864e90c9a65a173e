import { expect, test } from "bun:test";
import fc from "fast-check";
import { ProtocolError, RefusedError } from "../../lib/errors.ts";
import { makeVerifier, PasswordKeys, type Verifier } from "../../lib/password.ts";
import {
  type ChannelBinding,
  nonceText,
  ScramClient,
  ScramServer,
  tlsExporterBinding,
} from "../../lib/scram.ts";
import { check } from "../support/property.ts";
import vector from "../vectors/scram_sha256.json";

const noBinding: ChannelBinding = { gs2Header: "n,,", data: new Uint8Array(0) };
const binding = tlsExporterBinding(new Uint8Array(32).fill(7));
const keys = new PasswordKeys(vector.password);
const keysFor = (salt: Uint8Array<ArrayBuffer>, iterations: number) => keys.keysFor(salt, iterations);
const verifier: Verifier = await makeVerifier(
  vector.password,
  Uint8Array.fromBase64(vector.salt),
  vector.iterations,
);

test("ScramClient and ScramServer say what RFC 7677 says", async () => {
  const client = new ScramClient(vector.user, vector.clientNonce, noBinding);
  expect(client.first()).toBe(vector.clientFirst);
  const server = new ScramServer(client.first(), vector.serverNonce, noBinding);
  expect(server.user).toBe("user");
  expect(server.challenge(verifier)).toBe(vector.serverFirst);
  const clientFinal = await client.final(vector.serverFirst, keysFor);
  expect(clientFinal).toBe(vector.clientFinal);
  expect(await server.finish(clientFinal, verifier)).toBe(vector.serverFinal);
  client.verify(vector.serverFinal);
});

/** Runs a log-in in which each end has its own idea of the connection. */
async function logIn(
  client: ScramClient,
  serverBinding: ChannelBinding,
  known = verifier,
): Promise<string | null> {
  const server = new ScramServer(client.first(), "server-nonce", serverBinding);
  return await server.finish(await client.final(server.challenge(known), keysFor), known);
}

test("ScramServer accepts a proof on the same connection only", async () => {
  const client = new ScramClient("user", "client-nonce", binding);
  const serverFinal = await logIn(client, binding);
  expect(serverFinal).not.toBeNull();
  client.verify(serverFinal!);
  const relayed = tlsExporterBinding(new Uint8Array(32).fill(8));
  expect(await logIn(new ScramClient("user", "client-nonce", binding), relayed)).toBeNull();
});

test("ScramServer refuses the proof of another password", async () => {
  const other = await makeVerifier("other", Uint8Array.fromBase64(vector.salt), 4096);
  expect(await logIn(new ScramClient("user", "client-nonce", binding), binding, other)).toBeNull();
});

test("ScramServer refuses every other kind of binding, and names what it wants", () => {
  for (const header of ["n,,", "y,,", "p=tls-unique,,"]) {
    expect(() => new ScramServer(`${header}n=user,r=abc`, "x", binding)).toThrow(/SCRAM-SHA-256-PLUS/);
  }
});

test("ScramServer reads user names with commas and equals signs", () => {
  const client = new ScramClient("a=b,c=2C", "nonce", binding);
  expect(client.first()).toBe("p=tls-exporter,,n=a=3Db=2Cc=3D2C,r=nonce");
  expect(new ScramServer(client.first(), "x", binding).user).toBe("a=b,c=2C");
});

test("ScramServer throws nothing but ProtocolError on wrong client-first messages", () => {
  const wrong = [
    "",
    "p=tls-exporter,,",
    "p=tls-exporter,,n=,r=abc",
    "p=tls-exporter,,n=user",
    "p=tls-exporter,,n=us=41er,r=abc",
    "p=tls-exporter,,n=user,r=abc,m=ext",
    "p=tls-exporter,a=admin,n=user,r=abc",
    "p=tls-exporter,,m=x,n=user,r=abc",
    `p=tls-exporter,,n=${"u".repeat(257)},r=abc`,
    `p=tls-exporter,,n=user,r=${"x".repeat(257)}`,
  ];
  for (const text of wrong) expect(() => new ScramServer(text, "x", binding)).toThrow(ProtocolError);
  check(
    fc.property(fc.string(), (text) => {
      expect(() => new ScramServer(text, "x", binding)).toThrow(ProtocolError);
    }),
  );
});

test("ScramServer refuses changed client-final messages", async () => {
  const client = new ScramClient("user", "client-nonce", binding);
  const server = new ScramServer(client.first(), "server-nonce", binding);
  const good = await client.final(server.challenge(verifier), keysFor);
  expect(await server.finish(good.replace("server-nonce", "server-nonca"), verifier)).toBeNull();
  for (const text of [
    "",
    good.slice(0, -4),
    good.replace(",p=", ",x=1,p="),
    good.replace("p=", "p=AAAA"),
    `${good},x=1`,
  ]) {
    await expect(server.finish(text, verifier)).rejects.toBeInstanceOf(ProtocolError);
  }
});

test("ScramClient refuses a nonce that is not its own, and iterations out of bounds", async () => {
  const wrong = [
    "r=other-nonce,s=c2FsdA==,i=4096",
    "r=nonce,s=c2FsdA==,i=4096",
    "r=nonce+more,s=c2FsdA==,i=4095",
    "r=nonce+more,s=c2FsdA==,i=10000001",
    "r=nonce+more,s=,i=4096",
    "r=nonce+more,s=!!!!,i=4096",
    "r=nonce+more,s=c2FsdA==,i=4096,m=ext",
    "m=ext,r=nonce+more,s=c2FsdA==,i=4096",
    "",
  ];
  for (const serverFirst of wrong) {
    const client = new ScramClient("user", "nonce", binding);
    await expect(client.final(serverFirst, keysFor)).rejects.toBeInstanceOf(ProtocolError);
  }
});

test("ScramClient believes nothing but the right server signature", async () => {
  const client = new ScramClient("user", "nonce", binding);
  const server = new ScramServer(client.first(), "more", binding);
  const serverFinal = await server.finish(await client.final(server.challenge(verifier), keysFor), verifier);
  const changed = `v=${Buffer.alloc(32).toString("base64")}`;
  for (const text of ["", "v=", "e=other-error", changed, `${serverFinal},x=1`]) {
    expect(() => client.verify(text)).toThrow(RefusedError);
  }
  expect(() => new ScramClient("user", "nonce", binding).verify(serverFinal!)).toThrow(/could not prove/);
  client.verify(serverFinal!);
});

test("nonceText() is printable and holds all of its random bytes", () => {
  expect(nonceText(new Uint8Array(18).fill(255))).toBe("/".repeat(24));
});
