/** The control channel as a TLS scanner sees it: version, ciphers and groups; `docs/security.md` says why these. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { type Machine, SERVER_ADDRESS } from "./harness/network.ts";
import { startServer } from "./harness/omail.ts";

/** Arguments of `openssl s_client`, and what must come of them. */
const ACCEPTED: readonly (readonly string[])[] = [
  ["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"],
  ["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"],
  ["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
  ["-tls1_3", "-groups", "X25519"],
  ["-tls1_3", "-groups", "P-256"],
  ["-tls1_3", "-groups", "P-384"],
];
const REFUSED: readonly (readonly string[])[] = [
  ["-tls1"],
  ["-tls1_1"],
  ["-tls1_2"],
  ["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"],
  ["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256"],
  ["-tls1_3", "-groups", "P-521"],
  ["-tls1_3", "-groups", "X448"],
  ["-tls1_3", "-groups", "ffdhe2048"],
  ["-tls1_3", "-groups", "ffdhe3072"],
];

/** The version and cipher that were agreed on; null when the server refused. */
async function agreed(machine: Machine, args: readonly string[]): Promise<string | null> {
  const connect = ["openssl", "s_client", "-connect", `${SERVER_ADDRESS}:51820`, "-alpn", "omail/1", ...args];
  const { stdout } = await machine.tryRun(connect, { input: "" });
  return /New, (TLSv1\.\d), Cipher is (TLS_\w+)/.exec(stdout)?.slice(1).join(" ") ?? null;
}

networkTest("TLS: only 1.3, with authenticated ciphers and elliptic curves", {}, async (network) => {
  await startServer(network);
  for (const args of ACCEPTED) {
    const answer = await agreed(network.client(0), args);
    console.log(`${args.join(" ")}: ${answer}`);
    expect({ args, answer }).toEqual({ args, answer: expect.stringMatching(/^TLSv1\.3 TLS_/) });
  }
  for (const args of REFUSED) {
    expect({ args, answer: await agreed(network.client(0), args) }).toEqual({ args, answer: null });
  }
});
