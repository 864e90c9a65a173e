/** The stages that seal and open a record, by each engine. */

import type { EngineName } from "../../lib/data_plane_message.ts";
import type { Engine, RecordJob, RecordKey } from "../../lib/engine.ts";
import { openEngine } from "../../lib/engines.ts";
import { yieldProcessor } from "../../lib/libc.ts";
import { KEY_BYTES, NONCE_SALT_BYTES, TAG_BYTES } from "../../lib/limits.ts";
import { headerOf, sizeText } from "./stage_packets.ts";
import type { Stage } from "./stopwatch.ts";

/** Plaintexts: an acknowledgement, a full packet, a few of them, a super-packet. */
const SIZES = [64, 1_400, 16_000, 62_000] as const;
/** Records under way at once, as under load. */
const IN_FLIGHT = 64;
const SALT = new Uint8Array(NONCE_SALT_BYTES);
const ENGINES: Readonly<Record<EngineName, string>> = { web: "Web Crypto", sync: "node:crypto" };

export async function cipherStages(): Promise<readonly Stage[]> {
  const bytes = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
  const webKey = await crypto.subtle.importKey("raw", bytes, "AES-GCM", true, ["encrypt", "decrypt"]);
  const seals: Stage[] = [];
  const opens: Stage[] = [];
  for (const [name, label] of Object.entries(ENGINES) as [EngineName, string][]) {
    const engine = openEngine(name, yieldProcessor);
    const key = engine.prepareKey(webKey);
    for (const size of SIZES) {
      seals.push(seal(engine, label, key, size));
      opens.push(open(engine, label, key, size, await sealedRecord(engine, key, size)));
    }
  }
  return [...seals, ...opens];
}

/** A job and the end of it. */
function jobOf(key: RecordKey): { readonly job: RecordJob; readonly settled: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const job: RecordJob = { key, salt: SALT, body: null, tag: null, failed: false, settled: () => resolve() };
  return { job, settled: promise };
}

async function sealedRecord(engine: Engine, key: RecordKey, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const { job, settled } = jobOf(key);
  engine.seal(job, headerOf(bytes, 0), new Uint8Array(bytes));
  await settled;
  const record = new Uint8Array(bytes + TAG_BYTES);
  record.set(job.body!);
  if (job.tag !== null) record.set(job.tag, bytes);
  return record;
}

function seal(engine: Engine, label: string, key: RecordKey, bytes: number): Stage {
  const plaintext = new Uint8Array(bytes);
  let sequence = 0;
  return {
    name: `seal, ${label}`,
    input: sizeText(bytes),
    bytes,
    batch: IN_FLIGHT,
    run: () => {
      const { job, settled } = jobOf(key);
      engine.seal(job, headerOf(bytes, sequence++), plaintext);
      return settled;
    },
  };
}

function open(
  engine: Engine,
  label: string,
  key: RecordKey,
  bytes: number,
  record: Uint8Array<ArrayBuffer>,
): Stage {
  const header = headerOf(bytes, 0);
  return {
    name: `open, ${label}`,
    input: sizeText(bytes),
    bytes,
    batch: IN_FLIGHT,
    run: () => {
      const { job, settled } = jobOf(key);
      engine.open(job, header, 0, record, 0, record.length);
      return settled;
    },
  };
}
