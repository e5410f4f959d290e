/**
 * A training in a process of its own, for tests that kill it: `node THIS DIRECTORY STEPS [DIE_WHILE_SAVING_STEP]`.
 * Prints "step N" after every step.
 */
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import type { HostTensor } from "@sdxs/tensor";
import { writeSafetensorsFile } from "@sdxs/tensor/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import type { Checkpoint, CheckpointStore } from "./checkpoint-store.js";
import { exampleTask } from "./example-task.test-support.js";
import { csvLog, fileCheckpoints } from "./node.js";
import { train } from "./train.js";

async function main([directory = "", steps, dieWhileSavingStep]: readonly string[]): Promise<void> {
  const task = await exampleTask(onnxBackend({ ort, threads: 1 }), { steps: Number(steps), microBatches: 2 });
  const files = fileCheckpoints(join(directory, "checkpoints"));
  await train(task, {
    checkpoints: dieWhileSavingStep === undefined ? files : deadlyStore(files, Number(dieWhileSavingStep)),
    checkpointEverySteps: 2,
    log: csvLog(join(directory, "metrics.csv")),
    onProgress: ({ step }) => process.stdout.write(`step ${step}\n`),
  });
  await writeSafetensorsFile(join(directory, "weights.safetensors"), await task.weights());
}

/** Kills the process when half of this step's checkpoint is written. */
function deadlyStore(files: CheckpointStore, step: number): CheckpointStore {
  return {
    newest: () => files.newest(),
    save: (checkpoint) => files.save(checkpoint.step === step ? deadly(checkpoint) : checkpoint),
  };
}

/** The state's last tensor kills the process when it is read a second time: first for the checksum, then for the file. */
function deadly(checkpoint: Checkpoint): Checkpoint {
  const [name, tensor] = Object.entries(checkpoint.state)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .at(-1) as [string, HostTensor];
  let reads = 0;
  const trap = Object.create(tensor, {
    data: {
      get() {
        if (++reads === 2) process.kill(process.pid, "SIGKILL");
        return tensor.data;
      },
    },
  }) as HostTensor;
  return { ...checkpoint, state: { ...checkpoint.state, [name]: trap } };
}

void main(process.argv.slice(2));
