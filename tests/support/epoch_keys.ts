/** Epoch keys for tests: fixed bytes, both ends of one epoch. */

import type { EpochKeys } from "../../lib/data_plane_message.ts";

/** Imports 32 bytes as an AES-256-GCM key. */
export function aesKey(bytes: Uint8Array<ArrayBuffer>): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"]);
}

/** The keys of one epoch as client and server hold them. */
export async function epochKeys(epoch: number): Promise<{ client: EpochKeys; server: EpochKeys }> {
  const up = await aesKey(new Uint8Array(32).fill(epoch + 1));
  const down = await aesKey(new Uint8Array(32).fill(epoch + 129));
  const upSalt = Uint8Array.of(1, 2, 3, epoch);
  const downSalt = Uint8Array.of(9, 8, 7, epoch);
  return {
    client: { epoch, sendKey: up, sendSalt: upSalt, receiveKey: down, receiveSalt: downSalt },
    server: { epoch, sendKey: down, sendSalt: downSalt, receiveKey: up, receiveSalt: upSalt },
  };
}

/** Keys that nothing is sealed with: for state machines that only carry them about. */
export function opaqueKeys(epoch: number): EpochKeys {
  const key = {} as CryptoKey;
  return {
    epoch,
    sendKey: key,
    receiveKey: key,
    sendSalt: new Uint8Array(4),
    receiveSalt: new Uint8Array(4),
  };
}
