import {
  initialize,
  prefixed,
  random,
  scope,
  select,
  specsOf,
  type HostData,
  type HostParams,
  type HostTensor,
  type Program,
  type Random,
} from "@sdxs/tensor";
import { copyParameters, unetDistillation, unetParameters, type UNetDistillationOptions } from "@sdxs/tiny-unet";
import { takeRows } from "@sdxs/training";
import { rowCount, takeOutputs } from "../../../rows.js";
import {
  encodePrompts,
  noisedBatch,
  noisySamples,
  samplePairs,
  studentPlan,
  teacherSteps,
  type Pairs,
} from "../distil.js";
import { decodeLarge } from "../decode.js";
import { unetDenoisingLoss } from "../../../diffusion-model.js";
import { annealed } from "../../../run-task.js";
import { runStage, type StageOptions } from "../stage.js";
import type { Teacher } from "../teacher.js";

/** Equation 8, what is left of it with one part switched off, and the denoising of Equation 1 in its place. */
export const distillations = {
  "Equation 8": {},
  "without features": { featureWeight: 0 },
  "without outputs": { outputWeight: 0 },
  "Equation 1 alone": { denoising: true },
  "from random weights": { begin: {} },
} as const satisfies Readonly<Record<string, Training>>;

export type Distillation = keyof typeof distillations;

/** Share of the samples denoised for the empty prompt. Chosen: guidance 2 weighs the error there by 1, the prompt's by 2. */
const emptyPrompts = 0.2;

const batchSize = 16;

/** How a tiny U-Net learns. */
interface Training extends Pick<UNetDistillationOptions, "outputWeight" | "featureWeight"> {
  /** Its parameters as it begins. Default: the teacher's, of the blocks that stay. */
  readonly begin?: HostParams;
  /** By Equation 1 from the samples, without what the teacher makes of them. Default false. */
  readonly denoising?: boolean;
}

/** The teacher with a tiny U-Net in its place, distilled in one of the ways. */
export async function distilTinyUNet<D>(
  options: StageOptions<D>,
  pairs: Pairs,
  distillation: Distillation,
  steps: number,
): Promise<Teacher> {
  const { teacher, seed } = options;
  const plan = studentPlan(teacher);
  const {
    begin = copyParameters(plan, teacher.unet.params),
    denoising,
    ...weights
  }: Training = distillations[distillation];
  const params = { ...initialize(unetParameters(plan.config), seed), ...begin };
  const empty = await emptyPrompt(options);
  const name = `${distillation}, ${steps} steps`;
  const stream = (step: number): Random => random(seed, "tiny U-Net", step);
  const learning = {
    batchSize,
    optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.99 },
    learningRate: annealed(5e-4, steps, 1e-5),
    steps,
  };
  const tiny = (trained: HostParams): Teacher => ({ ...teacher, unet: { config: plan.config, params: trained } });
  if (denoising) {
    const program: Program<"latents" | "noise" | "timestep" | "context", "loss"> = (ops, all, inputs) => ({
      loss: unetDenoisingLoss(ops, scope(ops, all), plan.config, inputs),
    });
    const batch = (step: number) => noisedPairs(pairs, stream(step), empty);
    return tiny(await runStage(options, name, { program, params, inputs: specsOf(batch(0)), batch, ...learning }));
  }
  const batch = (step: number) => noisyPairs(pairs, stream(step), empty);
  const trained = await runStage(options, name, {
    // Chosen: the feature terms sum to some fifty times the output's, so that both weigh alike.
    program: unetDistillation({ teacher: teacher.unet.config, plan, featureWeight: 0.02, ...weights }),
    params: prefixed(params, "student."),
    frozen: prefixed(teacher.unet.params, "teacher."),
    inputs: specsOf(batch(0)),
    batch,
    ...learning,
  });
  return tiny(select(trained, "student."));
}

const emptyPrompt = async <D>({ backend, teacher }: StageOptions<D>): Promise<EmptyPrompts> => ({
  share: emptyPrompts,
  context: await encodePrompts(backend, teacher, [""]),
});

/** The empty prompt's text embedding [1, tokens, features], and the share of samples that take it in place of their own. */
interface EmptyPrompts {
  readonly share: number;
  readonly context: HostTensor;
}

/** The teacher's samples under noise, at a random timestep each: what U-Nets are compared on. */
export function noisyPairs({ target, context }: Pairs, stream: Random, empty: EmptyPrompts) {
  const rows = stream.at("rows").integers([batchSize], 0, rowCount(target)).data;
  const encoderHiddenStates = contextsOrEmpty(context, rows, stream, empty);
  return { ...noisySamples(takeRows(target, rows), stream), encoderHiddenStates };
}

/** The same, with samples and noise apart: what Equation 1 takes. */
function noisedPairs({ target, context }: Pairs, stream: Random, empty: EmptyPrompts) {
  const { rows, ...noised } = noisedBatch(target, batchSize, stream);
  return { ...noised, context: contextsOrEmpty(context, rows, stream, empty) };
}

function contextsOrEmpty(context: HostTensor, rows: HostData, stream: Random, empty: EmptyPrompts): HostTensor {
  const contexts = takeRows(context, rows);
  const width = empty.context.data.length;
  stream
    .at("empty prompts")
    .uniform([rows.length])
    .data.forEach((value, row) => {
      if (value < empty.share) contexts.data.set(empty.context.data, row * width);
    });
  return contexts;
}

/** Both terms of Equation 8, each without its weight. */
export interface DistillationLosses {
  readonly outputLoss: number;
  readonly featureLoss: number;
}

/** Both terms of Equation 8 for a tiny U-Net, on the same noisy samples for every one. */
export async function distillationLosses<D>(
  options: StageOptions<D>,
  pairs: Pairs,
  student: HostParams,
): Promise<DistillationLosses> {
  const { backend, teacher, seed } = options;
  const batches = 16; // chosen: 256 samples
  const empty = await emptyPrompt(options);
  const batch = (index: number) => noisyPairs(pairs, random(seed, "losses", index), empty);
  const program = unetDistillation({ teacher: teacher.unet.config, plan: studentPlan(teacher) });
  const frozen = { ...prefixed(student, "student."), ...prefixed(teacher.unet.params, "teacher.") };
  const compiled = await backend.compile(program, { frozen, inputs: specsOf(batch(0)) });
  const means = { outputLoss: 0, featureLoss: 0 };
  for (let index = 0; index < batches; index++) {
    const { outputLoss, featureLoss } = await takeOutputs(backend, await compiled.run({}, batch(index)));
    means.outputLoss += outputLoss.item() / batches;
    means.featureLoss += featureLoss.item() / batches;
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
