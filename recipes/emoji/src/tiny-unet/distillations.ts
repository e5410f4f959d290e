import { prefixed, random, specsOf, type HostParams, type HostTensor } from "@sdxs/tensor";
import { unetDistillation } from "@sdxs/tiny-unet";
import {
  distilUNet,
  encodePrompts,
  noisyPairs,
  samplePairs,
  studentPlan,
  teacherSteps,
  type Pairs,
  type StageOptions,
  type UNetTraining,
} from "../distil.js";
import { decodeLarge } from "../decode.js";
import type { Teacher } from "../teacher.js";

/** Equation 8, what is left of it with one part switched off, and the denoising of Equation 1 in its place. */
export const distillations = {
  "Equation 8": {},
  "without features": { featureWeight: 0 },
  "without outputs": { outputWeight: 0 },
  "Equation 1 alone": { denoising: true },
  "from random weights": { begin: {} },
} as const satisfies Readonly<Record<string, Partial<UNetTraining>>>;

export type Distillation = keyof typeof distillations;

/** Share of the samples denoised for the empty prompt. Chosen: guidance 2 weighs the error there by 1, the prompt's by 2. */
const emptyPrompts = 0.2;

/** The teacher with a tiny U-Net in its place, distilled in one of the ways. */
export async function distilTinyUNet<D>(
  options: StageOptions<D>,
  pairs: Pairs,
  distillation: Distillation,
  steps: number,
): Promise<Teacher> {
  const { teacher } = options;
  const params = await distilUNet(options, pairs, {
    name: `${distillation}, ${steps} steps`,
    steps,
    finalRate: 1e-5, // chosen: these train to the end, while the quickstart's are trained further by the warm-up
    emptyPrompts,
    ...distillations[distillation],
  });
  return { ...teacher, unet: { config: studentPlan(teacher).config, params } };
}

/** Both terms of Equation 8, each without its weight. */
export interface DistillationLosses {
  readonly outputLoss: number;
  readonly featureLoss: number;
}

/** Both terms of Equation 8 for a tiny U-Net, on the same noisy samples for every one. */
export async function distillationLosses<D>(
  { backend, teacher, seed }: StageOptions<D>,
  pairs: Pairs,
  student: HostParams,
): Promise<DistillationLosses> {
  const batches = 16; // chosen: 256 samples
  const empty = { share: emptyPrompts, context: await encodePrompts(backend, teacher, [""]) };
  const batch = (index: number) => noisyPairs(pairs, random(seed, "losses", index), empty);
  const program = unetDistillation({ teacher: teacher.unet.config, plan: studentPlan(teacher) });
  const frozen = { ...prefixed(student, "student."), ...prefixed(teacher.unet.params, "teacher.") };
  const compiled = await backend.compile(program, { frozen, inputs: specsOf(batch(0)) });
  const means = { outputLoss: 0, featureLoss: 0 };
  for (let index = 0; index < batches; index++) {
    const { outputLoss, featureLoss } = await compiled.run({}, batch(index));
    means.outputLoss += (await backend.download(outputLoss)).item() / batches;
    means.featureLoss += (await backend.download(featureLoss)).item() / batches;
  }
  await compiled.dispose();
  return means;
}

/** A model's pictures for prompts, with the teacher's sampler and guidance, from the same noise for every model. */
export async function drawWithGuidance<D>(
  options: StageOptions<D>,
  name: string,
  model: Teacher,
  prompts: readonly string[],
): Promise<HostTensor> {
  const { target } = await samplePairs(
    { ...options, teacher: model },
    { name: `pictures, ${name}`, captions: prompts, steps: teacherSteps, seed: `pictures ${options.seed}` },
  );
  return decodeLarge(options.backend, model.autoencoder, target, 32);
}
