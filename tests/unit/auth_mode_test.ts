import { expect, test } from "bun:test";
import { AUTH_MODES, missingProof } from "../../lib/auth_mode.ts";

test("missingProof() wants what the mode says, and tells what is missing", () => {
  const table = AUTH_MODES.map((mode) => [
    mode,
    missingProof(mode, { password: true, certificate: false }) === null,
    missingProof(mode, { password: false, certificate: true }) === null,
    missingProof(mode, { password: true, certificate: true }) === null,
  ]);
  expect(table).toEqual([
    ["password", true, false, true],
    ["cert", false, true, true],
    ["both", false, false, true],
    ["any", true, true, true],
  ]);
  expect(missingProof("both", { password: true, certificate: false })).toMatch(
    /certificate is needed besides/,
  );
});
