/** Times the stages that end in the kernel, and prints them as JSON. Run by `bench:stages` in a namespace of its own. */

import { machineStages } from "../stages_machine.ts";
import { timeStage, type StageTime } from "../stopwatch.ts";

const milliseconds = Number(process.argv[2] ?? 300);
const times: StageTime[] = [];
for (const stage of await machineStages()) times.push(await timeStage(stage, milliseconds));
process.stdout.write(JSON.stringify(times));
process.exit(0);
