/**
 * Whether a stranger can tell from the clock who is a user: log-ins of unknown names against wrong passwords of users of
 * every kind, in random order, compared by Welch's t-test.
 *
 * OMAIL_TIMING_TRIES=1000 makes as many of each kind.
 */

import { afterEach, expect, test } from "bun:test";
import { type ClientMessage, encodeMessage } from "../../lib/control_message.ts";
import { startExchange } from "../../lib/key_schedule.ts";
import { makeVerifier, prepareText, saltForUser, saltPassword, scramKeys } from "../../lib/password.ts";
import { ScramClient, tlsExporterBinding, TLS_EXPORTER_LABEL } from "../../lib/scram.ts";
import { UserFollower } from "../../lib/user_follower.ts";
import { UserStore } from "../../lib/user_store.ts";
import { ControlHarness, type TestServer } from "../support/control_harness.ts";
import { randomSource } from "../support/property.ts";
import { next, RawClients } from "../support/raw_client.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";
import { testUser } from "../support/user_records.ts";

const TRIES = Number(process.env["OMAIL_TIMING_TRIES"] ?? 60);
/** |t| above this means a difference, with an error of one in 100,000 (as in leakage tests of cryptographic devices). */
const LARGEST_T = 4.5;
/** The harness's. */
const SECRET = new Uint8Array(32).fill(7);

const scratch = scratchDirectories();
const harness = new ControlHarness();
const clients = new RawClients();
afterEach(async () => {
  clients.destroyAll();
  await harness.stop();
});

const exchange = await startExchange(0);
// one stretching for all: the client's work is not what is measured
const wrongKeys = await scramKeys(
  await saltPassword(prepareText("wrong", "password"), new Uint8Array(16), 4096),
);

/** Milliseconds from the first message to the challenge, and from the proof to the refusal. */
async function refusedLogin(
  server: TestServer,
  user: string,
): Promise<{ challenge: number; refusal: number }> {
  // failures are what this is about, and shall not shut anybody out
  for (const value of [user, "127.0.0.1"]) server.server.lift(value);
  const connection = await clients.dial(server);
  const binding = tlsExporterBinding(connection.exportKey(TLS_EXPORTER_LABEL, new Uint8Array(0)));
  const scram = new ScramClient(user, "a nonce, but always the same".replaceAll(/[ ,]/g, "-"), binding);
  const hello: ClientMessage = {
    type: "hello",
    version: 1,
    client: "test",
    features: { offload: false },
    addresses: [],
    auth: { scram: scram.first() },
    keyShare: exchange.share,
  };
  const startMs = performance.now();
  connection.send(encodeMessage(hello));
  const challenge = await next(connection);
  const challengedMs = performance.now();
  if (challenge?.type !== "challenge") throw new Error(`expected a challenge, got ${challenge?.type}`);
  const final = await scram.final(challenge.scram, () => Promise.resolve(wrongKeys));
  const proofMs = performance.now();
  connection.send(encodeMessage({ type: "proof", scram: final }));
  const refusal = await next(connection);
  const refusedMs = performance.now();
  expect(refusal).toMatchObject({ type: "goodbye", reason: "The user name or the password is wrong" });
  connection.destroy();
  return { challenge: challengedMs - startMs, refusal: refusedMs - proofMs };
}

function meanAndVariance(values: readonly number[]): { mean: number; variance: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, variance: squares / (values.length - 1) };
}

/** Welch's t of two samples without their slowest tenth, which is the machine's. */
function welch(a: readonly number[], b: readonly number[]): number {
  const trimmed = [a, b].map((values) =>
    values.toSorted((x, y) => x - y).slice(0, Math.ceil(values.length * 0.9)),
  );
  const [one, two] = trimmed.map(meanAndVariance);
  return (
    (one!.mean - two!.mean) /
    Math.sqrt(one!.variance / trimmed[0]!.length + two!.variance / trimmed[1]!.length)
  );
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

test(
  "log-ins of unknown users and of known ones with a wrong password cannot be told apart by their time",
  async () => {
    const directory = scratch();
    const store = new UserStore(directory, 1_000);
    const kinds = {
      known: {},
      disabled: { enabled: false },
      certified: { auth: "cert" as const },
      coded: { totp: { secret: new Uint8Array(20).fill(1), lastStep: -1 } },
    };
    for (const [name, values] of Object.entries(kinds)) {
      const verifier = await makeVerifier("right", await saltForUser(SECRET, name));
      store.add(testUser(name, { ...values, verifier }), () => undefined);
    }
    store.close();
    const server = await harness.server({ serverSecret: SECRET, follower: new UserFollower(directory) });
    const random = randomSource();
    // "alice" is one of the configuration
    const names = ["unknown", "alice", ...Object.keys(kinds)];
    const times = new Map(
      names.map((name) => [name, { challenge: [] as number[], refusal: [] as number[] }]),
    );
    const order = names.flatMap((name) =>
      Array.from({ length: TRIES }, () => ({ name, key: random(2 ** 30) })),
    );
    for (const name of names) await refusedLogin(server, name);
    for (const { name } of order.toSorted((a, b) => a.key - b.key)) {
      const { challenge, refusal } = await refusedLogin(server, name);
      times.get(name)!.challenge.push(challenge);
      times.get(name)!.refusal.push(refusal);
    }
    const unknown = times.get("unknown")!;
    for (const name of names.slice(1)) {
      for (const step of ["challenge", "refusal"] as const) {
        const sample = times.get(name)![step];
        const t = welch(unknown[step], sample);
        console.log(
          `${step} of "${name}": ${TRIES} tries, median ${median(sample).toFixed(3)} ms ` +
            `(unknown ${median(unknown[step]).toFixed(3)} ms), t = ${t.toFixed(2)}`,
        );
        expect(Math.abs(t)).toBeLessThan(LARGEST_T);
      }
    }
  },
  20_000 + TRIES * 500,
);
