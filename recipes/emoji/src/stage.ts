import type { Backend, HostParams } from "@sdxs/tensor";
import { gradientTask, type GradientTaskOptions } from "@sdxs/training";
import { runTask, type RunTaskOptions } from "../../run-task.js";
import type { Teacher } from "./teacher.js";

/** What every stage of a distillation is given. */
export interface StageOptions<D> extends RunTaskOptions {
  readonly backend: Backend<D>;
  readonly teacher: Teacher;
  readonly seed: number;
}

/** Runs one training with checkpoints and a log in the work folder; gives its averaged weights. */
export async function runStage<D, In extends string>(
  options: StageOptions<D>,
  name: string,
  task: Omit<GradientTaskOptions<D, In>, "backend" | "name">,
): Promise<HostParams> {
  const gradients = await gradientTask({ ...task, backend: options.backend, name });
  return runTask(options, gradients, () => gradients.weights({ averaged: true }));
}
