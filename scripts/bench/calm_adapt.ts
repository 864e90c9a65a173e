/** The scenario in which loss starts and ends in mid-transfer: the record limit over time, and how fast it follows. */

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parseClientStatus } from "../../lib/admin_message.ts";
import { requestStatus } from "../../lib/control_socket.ts";
import { OmailError } from "../../lib/errors.ts";
import type { Instance } from "../../lib/instance.ts";
import { type FoundRound, type Running, type Scenario, TUNNELS } from "./calm.ts";
import { drawTimeChart } from "./line_chart.ts";
import { median, reactionTime, type Sample } from "./statistics.ts";
import { tcpOverTime } from "./traffic.ts";

const LOSS_PERCENT = 1;
/** When the loss begins and ends, and when the transfer ends. */
const LOSS_FROM_S = 6;
const LOSS_TO_S = 14;
const END_S = 28;
const SAMPLE_MS = 100;
/**
 * Datagrams of a record that is not too large for the loss: with parity it is lost when two of them are, and with n of them that
 * happens to n^2 p^2 / 2 of the records, here one in twenty.
 */
const DATAGRAMS_AT_LOSS = Math.floor(Math.sqrt(2 / 20) / (LOSS_PERCENT / 100));
const DATAGRAM_BYTES = 1_452;
const ADAPTED_BYTES = DATAGRAMS_AT_LOSS * DATAGRAM_BYTES;
const RECOVERED = 0.9;

export const adapt: Scenario = {
  name: "adapt",
  title: `the record limit over time while ${LOSS_PERCENT} % loss starts and ends in mid-transfer`,
  about:
    `One TCP upload of ${END_S} s; from ${LOSS_FROM_S} s to ${LOSS_TO_S} s, ${LOSS_PERCENT} % of the outer datagrams are lost each way. ` +
    `Adapted is when the client's record limit is at most ${ADAPTED_BYTES.toLocaleString("en-US")} bytes ` +
    "(one record in twenty lost, with its parity), recovered when it is nine tenths of what it was before; the limit is asked of the running client ten times a second.",
  columns: {
    adapted: "adapted after (s)",
    recovered: "recovered after (s)",
    before: "before (Mbit/s)",
    during: "during",
    after: "after",
  },
  peers: TUNNELS,
  measure: async (running) => {
    const { bed, tunnel } = running;
    // before and after differ from the time between by the loss alone
    await bed.splitDatagrams();
    const [speed, limit] = await Promise.all([
      tcpOverTime(bed, tunnel.target, END_S, 0.25),
      sampleLimit(running),
      changeLoss(running),
    ]);
    const mean = (from: number, to: number) =>
      median(speed.filter(({ seconds }) => seconds > from && seconds <= to).map(({ value }) => value));
    const before = limit.findLast(({ seconds }) => seconds < LOSS_FROM_S)?.value ?? Infinity;
    const isRecovered = (value: number) => value >= before * RECOVERED;
    const adapted = reactionTime(limit, LOSS_FROM_S, LOSS_TO_S, (value) => value <= ADAPTED_BYTES);
    return {
      figures: {
        adapted,
        // a limit that never moved has nothing to recover from
        recovered: adapted === null ? null : reactionTime(limit, LOSS_TO_S, END_S, isRecovered),
        before: mean(1, LOSS_FROM_S),
        during: mean(LOSS_FROM_S + 1, LOSS_TO_S),
        after: mean(LOSS_TO_S + 1, END_S),
      },
      series: { speed, limit },
    };
  },
  picture: { file: "record-limit.svg", draw: drawLimit },
};

async function changeLoss({ bed }: Running): Promise<void> {
  await Bun.sleep(LOSS_FROM_S * 1000);
  await bed.setLoss(LOSS_PERCENT);
  await Bun.sleep((LOSS_TO_S - LOSS_FROM_S) * 1000);
  await bed.setLoss(0);
}

/** The sender's record limit over the transfer; nothing for a tunnel that has none. */
async function sampleLimit({ bed, tunnel }: Running): Promise<readonly Sample[]> {
  if (tunnel.stateDirs === undefined) return [];
  const instance = instanceIn(tunnel.stateDirs.client);
  const startMs = performance.now();
  const samples: Sample[] = [];
  for (let atMs = 0; atMs < END_S * 1000; atMs += SAMPLE_MS) {
    await Bun.sleep(Math.max(0, startMs + atMs - performance.now()));
    bed.throwIfAborted();
    const { recordLimit } = parseClientStatus(await requestStatus(instance));
    samples.push({ seconds: (performance.now() - startMs) / 1000, value: recordLimit });
  }
  return samples;
}

/** The client whose control socket is in a state directory; its name depends on the namespace's number. */
function instanceIn(stateDir: string): Instance {
  const socket = readdirSync(stateDir).find((name) => name.endsWith(".sock"));
  if (socket === undefined) throw new OmailError(`Cannot find a control socket in "${stateDir}"`);
  const path = join(stateDir, socket);
  return { role: "client", tun: "", stateDir, journalPath: "", socketPath: path, lockPath: "" };
}

function drawLimit(found: FoundRound, notes: readonly string[]): string {
  const names = Object.keys(found).toSorted(
    (a, b) => TUNNELS.findIndex((one) => one === b) - TUNNELS.findIndex((one) => one === a),
  );
  const series = (key: string) =>
    names
      .map((name) => ({ name, samples: found[name]?.series?.[key] ?? [] }))
      .filter(({ samples }) => samples.length > 0);
  return drawTimeChart({
    title: "Loss that starts and ends in mid-transfer",
    notes,
    seconds: END_S,
    spans: [{ from: LOSS_FROM_S, to: LOSS_TO_S, label: `${LOSS_PERCENT} % loss` }],
    panels: [
      { title: "TCP up (Mbit/s)", series: series("speed") },
      { title: "largest record (bytes)", series: series("limit") },
    ],
  });
}
