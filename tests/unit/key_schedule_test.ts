import { expect, test } from "bun:test";
import { hkdfSync } from "node:crypto";
import { ProtocolError } from "../../lib/errors.ts";
import {
  answerExchange,
  type ClientExchange,
  deriveEpochKeys,
  deriveEpochSecrets,
  exporterContext,
  finishExchange,
  KEY_LABELS,
  startExchange,
} from "../../lib/key_schedule.ts";
import { fits } from "../support/control_harness.ts";
import hkdfVectors from "../vectors/hkdf_sha256.json";
import vector from "../vectors/key_schedule.json";
import x25519Vectors from "../vectors/x25519.json";

const bytes = (hex: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Uint8Array.fromHex(hex));
const salt = new Uint8Array(32).fill(1);

/** PKCS #8 around a raw X25519 private key (RFC 8410, section 7). */
function importX25519(raw: Uint8Array): Promise<CryptoKey> {
  const pkcs8 = Uint8Array.from([...bytes("302e020100300506032b656e04220420"), ...raw]);
  return crypto.subtle.importKey("pkcs8", pkcs8, { name: "X25519" }, false, ["deriveBits"]);
}

/** The client of the vector file, with its private keys. */
async function vectorClient(): Promise<ClientExchange> {
  const subtle = crypto.subtle as unknown as {
    importKey(
      format: string,
      key: Uint8Array,
      algorithm: object,
      extractable: boolean,
      usages: string[],
    ): Promise<CryptoKey>;
  };
  const seed = bytes(vector.mlkem768Seed);
  return {
    share: {
      epoch: vector.epoch,
      x25519: bytes(vector.clientShare.x25519),
      mlkem768: bytes(vector.clientShare.mlkem768),
    },
    x25519: await importX25519(bytes(vector.clientX25519Private)),
    mlkem768: await subtle.importKey("raw-seed", seed, { name: "ML-KEM-768" }, false, ["decapsulateBits"]),
  };
}

test("finishExchange() and deriveEpochSecrets() match the vector file", async () => {
  const server = {
    epoch: vector.epoch,
    x25519: bytes(vector.serverShare.x25519),
    mlkem768: bytes(vector.serverShare.mlkem768),
  };
  const exchange = await finishExchange(await vectorClient(), server);
  expect(exchange.secret.toHex()).toBe(vector.sharedSecret);
  const secrets = await deriveEpochSecrets(exchange, bytes(vector.exporterValue));
  expect(secrets.clientKey.toHex()).toBe(vector.clientToServer.key);
  expect(secrets.clientSalt.toHex()).toBe(vector.clientToServer.salt);
  expect(secrets.serverKey.toHex()).toBe(vector.serverToClient.key);
  expect(secrets.serverSalt.toHex()).toBe(vector.serverToClient.salt);
});

test("the vector file agrees with a second, plain implementation of the key schedule", async () => {
  const { clientShare, serverShare } = vector;
  const shares = clientShare.mlkem768 + clientShare.x25519 + serverShare.mlkem768 + serverShare.x25519;
  const transcript = new Bun.CryptoHasher("sha256").update(bytes(shares)).digest();
  const expand = (label: string, length: number): string => {
    const info = Buffer.concat([Buffer.from(label), transcript]);
    return Buffer.from(
      hkdfSync("sha256", bytes(vector.sharedSecret), bytes(vector.exporterValue), info, length),
    ).toString("hex");
  };
  expect(expand(KEY_LABELS.clientKey, 32)).toBe(vector.clientToServer.key);
  expect(expand(KEY_LABELS.clientSalt, 4)).toBe(vector.clientToServer.salt);
  expect(expand(KEY_LABELS.serverKey, 32)).toBe(vector.serverToClient.key);
  expect(expand(KEY_LABELS.serverSalt, 4)).toBe(vector.serverToClient.salt);
});

test.each(hkdfVectors)(
  "HKDF-SHA-256 of Web Crypto matches RFC 5869, $name",
  async ({ ikm, salt: hkdfSalt, info, okm }) => {
    const key = await crypto.subtle.importKey("raw", bytes(ikm), "HKDF", false, ["deriveBits"]);
    const parameters = { name: "HKDF", hash: "SHA-256", salt: bytes(hkdfSalt), info: bytes(info) };
    const output = new Uint8Array(await crypto.subtle.deriveBits(parameters, key, okm.length * 4));
    expect(output.toHex()).toBe(okm);
  },
);

test.each(x25519Vectors)(
  "X25519 of Web Crypto matches RFC 7748, $name",
  async ({ private: own, public: peer, shared }) => {
    const key = await crypto.subtle.importKey("raw", bytes(peer), { name: "X25519" }, false, []);
    const secret = await crypto.subtle.deriveBits(
      { name: "X25519", public: key },
      await importX25519(bytes(own)),
      256,
    );
    expect(new Uint8Array(secret).toHex()).toBe(shared);
  },
);

test("startExchange(), answerExchange() and finishExchange() give both ends keys that fit", async () => {
  const exchange = await startExchange(7);
  const server = await answerExchange(exchange.share);
  const client = await finishExchange(exchange, server.server);
  expect(client.secret.toHex()).toBe(server.secret.toHex());
  const [clientKeys, serverKeys] = await Promise.all([
    deriveEpochKeys("client", client, salt),
    deriveEpochKeys("server", server, salt),
  ]);
  expect([clientKeys.epoch, serverKeys.epoch]).toEqual([7, 7]);
  expect(await fits(clientKeys, serverKeys)).toBe(true);
  expect(await fits(serverKeys, clientKeys)).toBe(true);
  // one direction's key does not open the other's records
  expect(await fits(clientKeys, clientKeys)).toBe(false);
});

test("deriveEpochKeys() gives keys for sealing and opening, and wipes the secret", async () => {
  const server = await answerExchange((await startExchange(0)).share);
  const keys = await deriveEpochKeys("server", server, salt);
  expect(keys.sendKey.usages.toSorted()).toEqual(["decrypt", "encrypt"]);
  expect(server.secret.every((byte) => byte === 0)).toBe(true);
});

test("deriveEpochSecrets() depends on the connection, so that keys do not fit on another one", async () => {
  const server = await answerExchange((await startExchange(0)).share);
  const one = await deriveEpochSecrets(server, salt);
  const other = await deriveEpochSecrets(server, new Uint8Array(32).fill(2));
  expect(one.clientKey.toHex()).not.toBe(other.clientKey.toHex());
});

test("answerExchange() refuses a point of small order and an invalid encapsulation key", async () => {
  const { share } = await startExchange(0);
  const zero = { ...share, x25519: new Uint8Array(32) };
  const one = { ...share, x25519: Uint8Array.from({ length: 32 }, (_byte, i) => (i === 0 ? 1 : 0)) };
  const invalid = { ...share, mlkem768: new Uint8Array(1184).fill(0xff) };
  for (const wrong of [zero, one, invalid]) {
    await expect(answerExchange(wrong)).rejects.toBeInstanceOf(ProtocolError);
  }
});

test("finishExchange() refuses the share of another epoch and a point of small order", async () => {
  const exchange = await startExchange(4);
  const { server } = await answerExchange(exchange.share);
  await expect(finishExchange(exchange, { ...server, epoch: 5 })).rejects.toThrow(`epoch "5": expected 4`);
  const zero = { ...server, x25519: new Uint8Array(32) };
  await expect(finishExchange(exchange, zero)).rejects.toBeInstanceOf(ProtocolError);
});

test("exporterContext() is the session ID and the epoch, big-endian", () => {
  expect(exporterContext(vector.sessionId, vector.epoch).toHex()).toBe(vector.exporterContext);
  expect(exporterContext(0xffff_fffe, 0xfffd).toHex()).toBe("fffffffefffd");
});
