import { applyLora, loraParameters, loraTargets, mergeLora, type Lora, type LoraOptions } from "@sdxs/lora";
import { loraDistillationTask } from "@sdxs/one-step-trainer";
import {
  cosineSchedule,
  initialize,
  prefixed,
  random,
  scope,
  select,
  specsOf,
  type HostParams,
  type HostTensor,
  type Program,
} from "@sdxs/tensor";
import { takeRows } from "@sdxs/training";
import { mapBatches } from "../../../rows.js";
import type { EmojiDataset } from "../dataset.js";
import {
  encodePrompts,
  encoderFeatures,
  noisedBatch,
  scoreDistillationSetting,
  takePairs,
  type Pairs,
} from "../distil.js";
import { imageEncoder, unetDenoisingLoss } from "../../../diffusion-model.js";
import { annealed, runTask } from "../../../run-task.js";
import { runStage, type StageOptions } from "../stage.js";
import type { Teacher } from "../teacher.js";

/** Chosen: a style is in textures as much as in what attends to words; 8 is enough for one of them. */
export const loraOptions: LoraOptions = {
  rank: 8,
  targets: [...loraTargets.attention, ...loraTargets.projections, ...loraTargets.convolutions],
};

const batchSize = 8;

/** A style's LoRA of the teacher, on pictures of that style alone under captions that do not name it (Equation 1). */
export async function trainStyleLora<D>(
  options: StageOptions<D>,
  dataset: EmojiDataset,
  { name, pictures, steps }: { readonly name: string; readonly pictures: number; readonly steps: number },
): Promise<Lora<HostTensor>> {
  const { backend, teacher, seed } = options;
  const { config, params } = teacher.unet;
  const { images, captions } = dataset.batch(seed, 0, pictures);
  const encoder = imageEncoder(teacher.autoencoder.config);
  const { latents } = await mapBatches(backend, encoder, teacher.autoencoder.params, { images }, batchSize);
  const context = await encodePrompts(backend, teacher, captions);
  const lora = loraParameters(params, loraOptions);
  const program: Program<"latents" | "noise" | "timestep" | "context", "loss"> = (ops, all, inputs) => {
    const adapter = { params: select(all, "lora."), alphas: lora.alphas };
    const adapted = applyLora(ops, select(all, "unet."), [adapter]);
    return { loss: unetDenoisingLoss(ops, scope(ops, adapted), config, inputs) };
  };
  const batch = (step: number) => {
    const { rows, ...noised } = noisedBatch(latents, batchSize, random(seed, "style", step));
    return { ...noised, context: takeRows(context, rows) };
  };
  const trained = await runStage(options, `teacher's LoRA, ${name}`, {
    program,
    params: prefixed(initialize(lora.params, seed), "lora."),
    frozen: prefixed(params, "unet."),
    inputs: specsOf(batch(0)),
    batch,
    batchSize,
    optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.98 },
    learningRate: annealed(3e-3, steps, 1e-4), // chosen: hundreds of steps, which LoRA's usual 1e-4 is too slow for
    steps,
  });
  return { params: select(trained, "lora."), alphas: lora.alphas };
}

/** The teacher with a LoRA. */
export function withLora(teacher: Teacher, lora: Lora<HostTensor>): Teacher {
  const { config, params } = teacher.unet;
  return { ...teacher, unet: { config, params: mergeLora(params, [lora]) } };
}

/** The teacher's LoRA into one of the student, from pairs that the teacher sampled with it (Section 3.2, Figure 4). */
export async function distilLora<D>(
  options: StageOptions<D>,
  pairs: Pairs,
  student: HostParams,
  pretrained: Lora<HostTensor>,
  { name, steps }: { readonly name: string; readonly steps: number },
): Promise<Lora<HostTensor>> {
  const { teacher, seed } = options;
  const setting = await scoreDistillationSetting(options, student, steps);
  const batchOf = (purpose: string, update: number) => takePairs(pairs, random(seed, purpose, update), batchSize);
  const task = await loraDistillationTask({
    ...setting,
    name: `student's LoRA, ${name}`,
    seed: `LoRA ${seed}`,
    batchSize,
    features: encoderFeatures(teacher.unet.config),
    params: { student, teacher: teacher.unet.params },
    pretrained: [pretrained],
    lora: loraOptions,
    pairs: (update) => batchOf("LoRA", update),
    contexts: (update) => batchOf("online LoRA", update).context,
    alpha: cosineSchedule({ rate: 0.98, totalSteps: steps, finalRate: 0.7 }),
    lambdaFM: cosineSchedule({ rate: 1, totalSteps: steps, finalRate: 0.5 }),
    optimisation: {
      // Chosen: a LoRA takes larger rates than whole weights.
      student: {
        optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.95 },
        learningRate: annealed(2e-3, steps, 1e-4),
      },
      online: setting.optimisation.online,
    },
  });
  return runTask(options, task, () => task.lora({ averaged: true }));
}
