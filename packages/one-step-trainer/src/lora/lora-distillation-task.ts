import { initialize, mapTensors, prefixed, select, type HostParams, type HostTensor } from "@sdxs/tensor";
import { loraParameters, loraScope, mergeLora, type HostLoraAdapter, type Lora, type LoraOptions } from "@sdxs/lora";
import type { ScoreDistillationTask } from "../shared/score-distillation-task.js";
import {
  segmentedScoreDistillationTask,
  type SegmentedScoreDistillationTaskOptions,
} from "../segmented-score-distillation/segmented-score-distillation-task.js";

export interface LoraDistillationTaskOptions<D> extends Omit<SegmentedScoreDistillationTaskOptions<D>, "params"> {
  /** The one-step DM, which is frozen, and the offline DM without the LoRA: the online DM is initialised with it. */
  readonly params: { readonly student: HostParams; readonly teacher: HostParams };
  /**
   * The pretrained LoRAs, with weights, which are added to the offline DM. One that runs elsewhere has to have them
   * already: then none.
   */
  readonly pretrained: readonly HostLoraAdapter[];
  /** The student's LoRA: its rank, and which layers it adapts. */
  readonly lora: LoraOptions;
}

export interface LoraDistillationTask extends ScoreDistillationTask {
  /** The student's current LoRA, or its moving average: for `writeLora` and `mergeLora` of @sdxs/lora. */
  lora(options?: { readonly averaged?: boolean }): Promise<Lora<HostTensor>>;
}

/**
 * Distils a style's LoRA of the multi-step model into one of the one-step model, by segmented score distillation (SDXS
 * paper, Section 3.2 and Figure 4). The pretrained LoRA belongs to the offline DM, and never to the online DM, which
 * follows the student's samples. There is no warm-up: "LoRA finetune is much more stable than full finetune".
 *
 * `pairs` are the teacher's with the LoRA, if it is compatible with the teacher that samples them. If it is not, give those
 * without it, and a reduced `lambdaFM`.
 *
 * The features' function finds the parameters of the offline DM, the LoRA added. The student's LoRA begins from the seed so
 * that it changes nothing. Metrics: those of `segmentedScoreDistillationTask`.
 *
 * @throws InvalidArgumentError where an option is out of range, or a target of the LoRA matches no layer of the student;
 * ParameterError where a pretrained LoRA does not fit the teacher.
 *
 * @example
 * const task = await loraDistillationTask({
 *   name: "style", backend, seed: 1, steps: 300, batchSize: 16, sampleShape: [4, 16, 16], contextShape: [20, 128],
 *   student, onlineScore, offlineScore, features, schedule, params, pretrained: [style], lora: { rank: 8 },
 *   pairs, contexts, alpha, lambdaFM, optimisation,
 * });
 * await train(task, { checkpoints });
 * const lora = await task.lora({ averaged: true });
 * const file = writeLora({ unet: lora }, { unet: params.student }, "diffusers");
 */
export async function loraDistillationTask<D>(options: LoraDistillationTaskOptions<D>): Promise<LoraDistillationTask> {
  const { seed, student, params, pretrained } = options;
  const declared = loraParameters(params.student, options.lora);
  const { alphas } = declared;
  const task = await segmentedScoreDistillationTask({
    ...options,
    student: (ops, p, inputs) => {
      const adapter = p.at("lora");
      const lora = mapTensors(declared.params, ({ shape, init }, name) => adapter.param(name, shape, init));
      return student(ops, loraScope(ops, p, { params: lora, alphas }), inputs);
    },
    params: {
      student: prefixed(initialize(declared.params, `lora ${seed}`), "lora."),
      online: params.teacher,
      teacher: mergeLora(params.teacher, pretrained),
      fixed: { student: params.student },
    },
  });
  return {
    ...task,
    lora: async (which) => ({ params: select(await task.weights("student", which), "lora."), alphas }),
  };
}
