import {
  distributionMatchingDistillationTask,
  textureFinetuneTask,
  type FeatureExtractor,
} from "@sdxs/one-step-trainer";
import { mergeLora, type Lora } from "@sdxs/lora";
import { random, type HostParams, type HostTensor } from "@sdxs/tensor";
import { takeRows } from "@sdxs/training";
import { unetEncoder, type UNetConfig } from "@sdxs/tiny-unet";
import {
  encodePrompts,
  encoderFeatures,
  scoreDistillationSetting,
  studentModel,
  studentPlan,
  takePairs,
  type DistillationOptions,
  type Pairs,
} from "./distil.js";
import { imageEncoder } from "../../diffusion-model.js";
import { latentSpec } from "./networks.js";
import { annealed, runTask } from "../../run-task.js";
import { mapBatches, rowCount } from "../../rows.js";

const batchSize = 16;
const sampleShape = latentSpec(1).shape.slice(1);

/** A student with the texture that a LoRA gave it, and that LoRA. */
export interface TexturedStudent {
  readonly params: HostParams;
  readonly lora: Lora<HostTensor>;
}

/**
 * The paper's texture finetune: a GAN loss on an extremely low-rank LoRA of the student, judged by heads on the teacher's
 * encoder, with the teacher's samples as real ones.
 *
 * @param student weights of the one-step U-Net, as score distillation leaves it
 */
export async function finetuneTexture<D>(
  options: DistillationOptions<D>,
  pairs: Pairs,
  student: HostParams,
  steps: number,
): Promise<TexturedStudent> {
  const { backend, teacher, seed } = options;
  const task = await textureFinetuneTask({
    name: "texture finetune",
    backend,
    seed: `texture finetune ${seed}`,
    steps,
    sampleShape,
    contextShape: pairs.context.shape.slice(1),
    batchSize,
    student: studentModel(studentPlan(teacher).config),
    features: encoderFeatures(teacher.unet.config),
    params: { student, teacher: teacher.unet.params },
    pairs: (update) => takePairs(pairs, random(seed, "texture finetune", update), batchSize),
    optimisation: {
      // Chosen: beta1 = 0 as in StyleGAN-T, whose discriminator this is. A LoRA takes larger rates than whole weights.
      lora: {
        optimizer: { beta1: 0, beta2: 0.99, weightDecay: 0, clipNorm: 1, emaDecay: 0.99 },
        learningRate: annealed(5e-4, steps, 5e-5),
      },
      discriminator: {
        optimizer: { beta1: 0, beta2: 0.99, weightDecay: 0 },
        learningRate: annealed(1e-3, steps, 2e-4),
      },
    },
  });
  const lora = await runTask(options, task, () => task.lora({ averaged: true }));
  return { params: mergeLora(student, [lora]), lora };
}

/**
 * DMD2 in the place of segmented score distillation: no pairs, but real pictures for the classifier, which is a head on the
 * online DM's mid stage. The online DM begins as the teacher.
 *
 * @param warm weights of the one-step U-Net to begin with
 */
export async function distilDmd2<D>(
  options: DistillationOptions<D>,
  warm: HostParams,
  steps: number,
): Promise<HostParams> {
  const { teacher, seed } = options;
  const reals = await encodeReals(options);
  const batchOf = (purpose: string, update: number) => {
    const rows = random(seed, purpose, update).integers([batchSize], 0, rowCount(reals.real)).data;
    return { real: takeRows(reals.real, rows), context: takeRows(reals.context, rows) };
  };
  const task = await distributionMatchingDistillationTask({
    ...(await scoreDistillationSetting(options, warm, steps)),
    name: "DMD2",
    seed: `DMD2 ${seed}`,
    features: bottleneck(teacher.unet.config),
    contexts: (update) => batchOf("DMD2", update).context,
    reals: (update) => batchOf("DMD2 reals", update),
  });
  return runTask(options, task, () => task.weights("student", { averaged: true }));
}

/** Latents of pictures of the training set, and their captions' embeddings: those for which `distil` samples pairs. */
async function encodeReals<D>({ backend, teacher, dataset, seed, budget, signal }: DistillationOptions<D>) {
  const { images, captions } = dataset.batch(seed, 0, budget.pairs);
  const { config, params } = teacher.autoencoder;
  const { latents } = await mapBatches(backend, imageEncoder(config), params, { images }, batchSize, {
    ...(signal && { signal }),
  });
  return { real: latents, context: await encodePrompts(backend, teacher, captions) };
}

/** The map at the lowest resolution: the mid stage's, or that of the last level where there is none. */
const bottleneck =
  (config: UNetConfig): FeatureExtractor =>
  (ops, p, { context, ...inputs }) => {
    const { midBlock, downBlocks } = unetEncoder(ops, p, config, { ...inputs, encoderHiddenStates: context });
    return [midBlock ?? downBlocks.at(-1)!];
  };
