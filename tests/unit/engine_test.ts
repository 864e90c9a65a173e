/** Records sealed and opened: published AES-256-GCM vectors, our own record vectors, and node:crypto as a second opinion. */

import { describe, expect, test } from "bun:test";
import { createDecipheriv } from "node:crypto";
import fc from "fast-check";
import { HEADER_BYTES, TAG_BYTES } from "../../lib/limits.ts";
import { RecordType, writeHeader, writePiece } from "../../lib/protocol.ts";
import { aesKey } from "../support/epoch_keys.ts";
import { ENGINES, openRecord as open, sealRecord as seal } from "../support/seal.ts";
import { bytes, checkAsync } from "../support/property.ts";
import aesGcm from "../vectors/aes_gcm.json";
import { recordVectors } from "../vectors/make_record.ts";
import recordFile from "../vectors/record.json";

const hex = Uint8Array.fromHex;

describe("AES-256-GCM of Web Crypto", () => {
  test.each(aesGcm.vectors)("$source", async ({ key, iv, aad, plaintext, ciphertext, tag }) => {
    const imported = await aesKey(hex(key));
    const parameters = { name: "AES-GCM", iv: hex(iv), additionalData: hex(aad), tagLength: TAG_BYTES * 8 };
    const sealed = await crypto.subtle.encrypt(parameters, imported, hex(plaintext));
    expect(new Uint8Array(sealed).toHex()).toBe(ciphertext + tag);
    const opened = await crypto.subtle.decrypt(parameters, imported, sealed);
    expect(new Uint8Array(opened).toHex()).toBe(plaintext);
  });
});

describe.each(ENGINES)("engine %s", (_name, makeEngine) => {
  const engine = makeEngine();
  type Seal = Parameters<typeof seal>;
  const sealRecord = (key: Seal[0], salt: Seal[1], header: Seal[2], offset: Seal[3], plaintext: Seal[4]) =>
    seal(key, salt, header, offset, plaintext, engine);
  type Open = Parameters<typeof open>;
  const openRecord = (key: Open[0], salt: Open[1], header: Open[2], offset: Open[3], sealed: Open[4]) =>
    open(key, salt, header, offset, sealed, engine);

  describe("record.json", () => {
    test("is what its independent generator makes", () => {
      expect(recordVectors()).toEqual(recordFile as ReturnType<typeof recordVectors>);
    });

    test.each(recordVectors().records)("$name: sealed, cut and opened alike", async (vector) => {
      const { key, salt } = recordVectors().keys[vector.direction];
      const imported = await aesKey(hex(key));
      const header = new Uint8Array(HEADER_BYTES);
      const { type, sessionId, epoch, pieces, sequence } = vector;
      const length = vector.sealed.length / 2;
      writeHeader(header, 0, type as RecordType, length, sessionId, epoch, pieces, sequence);
      expect(header.toHex()).toBe(vector.header);
      const sealed = new Uint8Array(await sealRecord(imported, hex(salt), header, 0, hex(vector.plaintext)));
      expect(sealed.toHex()).toBe(vector.sealed);
      const opened = await openRecord(imported, hex(salt), hex(vector.header), 0, sealed);
      expect(new Uint8Array(opened).toHex()).toBe(vector.plaintext);
      vector.datagrams.forEach((datagram, piece) => {
        writePiece(header, 0, piece);
        expect(datagram.slice(0, HEADER_BYTES * 2)).toBe(header.toHex());
      });
      expect(vector.datagrams.map((datagram) => datagram.slice(HEADER_BYTES * 2)).join("")).toBe(
        vector.sealed,
      );
    });
  });

  /** A sealed record with its header at `offset` of a buffer, and what it takes to open it. */
  async function sealedRecord(offset = 0) {
    const raw = new Uint8Array(32).fill(7);
    const key = await aesKey(raw);
    const salt = Uint8Array.of(1, 2, 3, 4);
    const buffer = new Uint8Array(offset + HEADER_BYTES);
    writeHeader(buffer, offset, RecordType.data, 20 + TAG_BYTES, 9, 2, 1, 2 ** 33 + 5);
    const plaintext = new Uint8Array(20).fill(0x45);
    const sealed = new Uint8Array(await sealRecord(key, salt, buffer, offset, plaintext));
    return { raw, key, salt, buffer, plaintext, sealed };
  }

  describe("sealRecord", () => {
    test("is AES-256-GCM with nonce salt | counter and the header as associated data, by node:crypto", async () => {
      await checkAsync(
        fc.asyncProperty(
          bytes(32, 32),
          bytes(4, 4),
          bytes(16, 16),
          bytes(0, 300),
          fc.nat(9),
          async (raw, salt, header, text, at) => {
            const buffer = new Uint8Array(at + HEADER_BYTES + 3);
            buffer.set(header, at);
            const sealed = Buffer.from(await sealRecord(await aesKey(raw), salt, buffer, at, text));
            const nonce = Buffer.concat([salt, header.subarray(8)]);
            const decipher = createDecipheriv("aes-256-gcm", raw, nonce);
            decipher.setAAD(header).setAuthTag(sealed.subarray(text.length));
            const opened = Buffer.concat([
              decipher.update(sealed.subarray(0, text.length)),
              decipher.final(),
            ]);
            expect(opened.toString("hex")).toBe(text.toHex());
          },
        ),
      );
    });

    test("copies its input before it returns: the buffers may be used again at once", async () => {
      const { key, salt, buffer } = await sealedRecord();
      for (const length of [20, 1400, 62_000]) {
        const plaintext = new Uint8Array(length).fill(0x45);
        const expected = new Uint8Array(await sealRecord(key, salt, buffer, 0, plaintext));
        const header = buffer.slice();
        const promise = sealRecord(key, salt, header, 0, plaintext);
        header.fill(0);
        plaintext.fill(0);
        expect(Buffer.compare(new Uint8Array(await promise), expected)).toBe(0);
      }
    });

    test("another counter, another ciphertext", async () => {
      const { key, salt, buffer, plaintext, sealed } = await sealedRecord();
      buffer[15]!++;
      const other = new Uint8Array(await sealRecord(key, salt, buffer, 0, plaintext));
      expect(other.subarray(0, 20).toHex()).not.toBe(sealed.subarray(0, 20).toHex());
    });
  });

  describe("openRecord", () => {
    const rejects = (opened: Promise<ArrayBuffer>) =>
      opened.then(
        () => false,
        () => true,
      );

    test("opens at any offset what was sealed", async () => {
      const { key, salt, buffer, plaintext, sealed } = await sealedRecord(5);
      const opened = await openRecord(key, salt, buffer, 5, sealed);
      expect(new Uint8Array(opened).toHex()).toBe(plaintext.toHex());
    });

    test("refuses a change of any bit of the header", async () => {
      const { key, salt, buffer, sealed } = await sealedRecord();
      for (let bit = 0; bit < HEADER_BYTES * 8; bit++) {
        const changed = buffer.slice();
        changed[bit >> 3]! ^= 1 << (bit & 7);
        expect(await rejects(openRecord(key, salt, changed, 0, sealed))).toBe(true);
      }
    });

    test("refuses a change of any byte of ciphertext and tag, and every truncation", async () => {
      const { key, salt, buffer, sealed } = await sealedRecord();
      for (let i = 0; i < sealed.length; i++) {
        const changed = sealed.slice();
        changed[i]! ^= 0x80;
        expect(await rejects(openRecord(key, salt, buffer, 0, changed))).toBe(true);
        expect(await rejects(openRecord(key, salt, buffer, 0, sealed.slice(0, i)))).toBe(true);
      }
    });

    test("refuses another key and another salt", async () => {
      const { raw, key, salt, buffer, sealed } = await sealedRecord();
      raw[0]! ^= 1;
      expect(await rejects(openRecord(await aesKey(raw), salt, buffer, 0, sealed))).toBe(true);
      expect(await rejects(openRecord(key, Uint8Array.of(1, 2, 3, 5), buffer, 0, sealed))).toBe(true);
    });
  });
});
