/** Users for tests, with a verifier that no password fits. */

import { DEFAULT_USER_SETTINGS, type UserLimits, type UserRecord } from "../../lib/user_record.ts";

/** A user without limits; `values` replaces what it says. */
export function testUser(name: string, values: Partial<UserRecord> = {}): UserRecord {
  const byte = name.charCodeAt(0);
  return {
    name,
    enabled: true,
    verifier: {
      salt: new Uint8Array(16).fill(byte),
      iterations: 4096,
      storedKey: new Uint8Array(32).fill(byte),
      serverKey: new Uint8Array(32).fill(byte + 1),
    },
    totp: null,
    ...DEFAULT_USER_SETTINGS,
    ...values,
  };
}

/** Limits of which only some are set. */
export function limitsOf(values: Partial<UserLimits>): UserLimits {
  return { ...DEFAULT_USER_SETTINGS.limits, ...values };
}
