import { join } from "node:path";
import { cosineSchedule, type Schedule } from "@sdxs/tensor";
import { joinLogs, train, type TrainOptions, type TrainingTask } from "@sdxs/training";
import { csvLog, fileCheckpoints, tensorBoardLog } from "@sdxs/training/node";
import type { StageProgress } from "./progress-bars.js";

export interface RunTaskOptions {
  /** Checkpoints and logs go into a folder of the task's name there; a run that finds some goes on from there. */
  readonly workFolder: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (stage: string, progress: StageProgress) => void;
}

/** A learning rate that rises for a twentieth of the steps and falls along a cosine. Chosen: short trainings, no long plateau. */
export function annealed(rate: number, totalSteps: number, finalRate: number): Schedule {
  return cosineSchedule({ rate, warmupSteps: Math.floor(totalSteps / 20), totalSteps, finalRate });
}

/** Runs a task with checkpoints and logs in the work folder, gives what `result` makes of it in the end, and disposes it. */
export async function runTask<Result>(
  { workFolder, signal, onProgress }: RunTaskOptions,
  task: TrainingTask,
  result: () => Promise<Result>,
  options: Pick<TrainOptions, "checkpointEverySeconds" | "validate"> = {},
): Promise<Result> {
  try {
    const folder = join(workFolder, task.name);
    await train(task, {
      checkpoints: fileCheckpoints(join(folder, "checkpoints")),
      checkpointEverySeconds: 20,
      log: joinLogs(csvLog(join(folder, "metrics.csv")), tensorBoardLog(join(folder, "events"))),
      ...(signal && { signal }),
      onProgress: (progress) => onProgress?.(task.name, progress),
      ...options,
    });
    return await result();
  } finally {
    await task.dispose();
  }
}
