import { join } from "node:path";
import { combineResiduals, controlNet, controlNetParameters, type ControlNetConfig } from "@sdxs/controlnet";
import { dpmSolver, oneStepConversion } from "@sdxs/diffusion";
import { noiseImagePairs, oneStepGenerator, type ScoreFunction } from "@sdxs/one-step-trainer";
import { HostTensor, prefixed, scope, specsOf, type HostParams, type Program } from "@sdxs/tensor";
import { unet, type UNetConfig } from "@sdxs/tiny-unet";
import { takeRows } from "@sdxs/training";
import { cachedRows } from "@sdxs/training/node";
import { concatRows, firstRows, mapBatches, rowCount, takeOutputs } from "../../../rows.js";
import { encodePrompts, guidanceScale, studentPlan, teacherSteps, type Pairs, type Student } from "../distil.js";
import { predictionType, schedule } from "../../../diffusion-model.js";
import { imageSize, tinyDecoderConfig } from "../models.js";
import { latentSpec, tinyImageDecoder } from "../networks.js";
import { medianMs } from "../report.js";
import { controlled, controlNetPlans, type TrainedControlNet } from "./stages.js";
import type { StageOptions } from "../stage.js";

/** What pictures are drawn for, a row for each. */
export interface Drawing {
  /** Text embeddings [pictures, tokens, features]. */
  readonly context: HostTensor;
  /** [pictures, 3, 64, 64] */
  readonly condition: HostTensor;
}

const teacherBatch = 16;

/**
 * The teacher's samples with its ControlNet and guidance, and the noise that each began as, kept in the work folder.
 *
 * @param sampling.steps of the ODE sampler. Default `teacherSteps`
 * @param sampling.seed of the noise
 */
export async function drawTeacher<D>(
  options: StageOptions<D>,
  { context, condition }: Drawing,
  { config, params }: TrainedControlNet,
  { name, seed, steps = teacherSteps }: { readonly name: string; readonly seed: string; readonly steps?: number },
): Promise<Pairs> {
  const { backend, teacher, workFolder, signal, onProgress } = options;
  const empty = await encodePrompts(backend, teacher, [""]);
  const network = controlled(teacher.unet.config, config);
  const program: Program<"sample" | "timestep" | "context" | "condition", "output"> = (ops, all, inputs) => ({
    output: network(ops, scope(ops, all), inputs),
  });
  const seen = 2 * teacherBatch; // guidance: the empty prompts first, both with the condition
  const compiled = await backend.compile(program, {
    frozen: { ...prefixed(teacher.unet.params, "unet."), ...prefixed(params, "controlnet.") },
    inputs: {
      sample: latentSpec(seen),
      timestep: { shape: [seen] },
      context: { shape: [seen, ...context.shape.slice(1)] },
      condition: { shape: [seen, ...condition.shape.slice(1)] },
    },
  });
  const count = rowCount(context);
  const { noise, target } = await cachedRows({
    folder: join(workFolder, name),
    key: `seed ${seed}, ${steps} steps, guidance ${guidanceScale}`,
    count,
    pieceSize: teacherBatch,
    async compute(first, rowsOfPiece) {
      const rows = Array.from({ length: teacherBatch }, (_, i) => Math.min(first + i, count - 1));
      const images = takeRows(condition, rows);
      const twice = concatRows([images, images]);
      const sample = noiseImagePairs({
        seed,
        sampleShape: latentSpec(1).shape.slice(1),
        plan: dpmSolver(schedule, { steps, prediction: predictionType, spacing: "trailing" }),
        guidance: { scale: guidanceScale, unconditional: new HostTensor(empty.shape.slice(1), empty.data) },
        async predict(noisy, time, prompts) {
          const timestep = HostTensor.filled([seen], time);
          const inputs = { sample: noisy, timestep, context: prompts, condition: twice };
          return (await takeOutputs(backend, await compiled.run({}, inputs))).output;
        },
      });
      const drawn = await sample(takeRows(context, rows), first, signal);
      return { noise: firstRows(drawn.noise, rowsOfPiece), target: firstRows(drawn.target, rowsOfPiece) };
    },
    ...(signal && { signal }),
    onProgress: (done, total) => onProgress?.(name, { step: done, steps: total, metrics: {} }),
  });
  await compiled.dispose();
  return { noise, target, context };
}

/** A ControlNet of the student with what it is given, and how strongly it guides: 1 if not said. */
export interface Guide extends TrainedControlNet {
  readonly condition: HostTensor;
  readonly weight?: number;
}

/** The student's latents in one step, guided by any number of ControlNets together. */
export function drawStudent<D>(
  options: StageOptions<D>,
  student: HostParams,
  given: { readonly noise: HostTensor; readonly context: HostTensor },
  guides: readonly Guide[],
): Promise<HostTensor> {
  return drawOnce(options, guided(studentPlan(options.teacher).config, guides), student, given, guides);
}

/** The same with the teacher's ControlNet put onto the student as it is: what the paper warns of. */
export function drawWithTeachersControlNet<D>(
  options: StageOptions<D>,
  student: HostParams,
  given: { readonly noise: HostTensor; readonly context: HostTensor },
  guide: Guide,
): Promise<HostTensor> {
  const plans = controlNetPlans(options);
  const residuals = Object.keys(controlNetParameters(plans.student.config)).filter((name) =>
    /^controlnet_down_blocks\.\d+\.weight$/.test(name),
  ).length;
  const network: ScoreFunction = (ops, p, { context, condition, ...inputs }) => {
    const seen = { ...inputs, encoderHiddenStates: context };
    const { down } = controlNet(ops, p.at("controlnet.0"), guide.config, { ...seen, condition: condition! });
    // The student has the teacher's first levels; the last of their maps is shaped as its lowest one, which gets none.
    const first = down.slice(0, residuals);
    const controlResiduals = { down: first, mid: ops.mul(first.at(-1)!, 0) };
    return unet(ops, p.at("unet"), studentPlan(options.teacher).config, { ...seen, controlResiduals }).sample;
  };
  return drawOnce(options, network, student, given, [guide]);
}

async function drawOnce<D>(
  { backend }: StageOptions<D>,
  network: ScoreFunction,
  student: HostParams,
  { noise, context }: { readonly noise: HostTensor; readonly context: HostTensor },
  guides: readonly Guide[],
): Promise<HostTensor> {
  const inputs = { noise, context, ...(guides.length > 0 && { condition: stackConditions(guides, rowCount(noise)) }) };
  const { latents } = await mapBatches(backend, oneStep(network), guidedParams(student, guides), inputs, 32);
  return latents;
}

/** One evaluation of the network: noise and what it is to show, to latents. */
export function oneStep(network: ScoreFunction): Program<"noise" | "context", "latents"> {
  const generator = oneStepGenerator(network, oneStepConversion(schedule, { prediction: predictionType }));
  return (ops, params, inputs) => ({ latents: generator(ops, scope(ops, params), inputs) });
}

/** A U-Net guided by ControlNets together, whose conditions are one image of three channels for each. */
export const guided =
  (
    config: UNetConfig,
    guides: readonly { readonly config: ControlNetConfig; readonly weight?: number }[],
  ): ScoreFunction =>
  (ops, p, { context, condition, ...inputs }) => {
    const given = { ...inputs, encoderHiddenStates: context };
    const residuals = guides.map(({ config: control, weight = 1 }, index) => {
      const image = ops.slice(condition!, 1, 3 * index, 3);
      const options = { conditioningScale: weight };
      return controlNet(ops, p.at("controlnet").at(index), control, { ...given, condition: image }, options);
    });
    const control = residuals.length > 0 && { controlResiduals: combineResiduals(ops, residuals) };
    return unet(ops, p.at("unet"), config, { ...given, ...control }).sample;
  };

export function guidedParams(unetParams: HostParams, guides: readonly TrainedControlNet[]): HostParams {
  const controlNets = guides.map(({ params }, index) => prefixed(params, `controlnet.${index}.`));
  return Object.assign(prefixed(unetParams, "unet."), ...controlNets) as HostParams;
}

/** The guides' first conditions side by side: [count, 3 for each, 64, 64]. */
export function stackConditions(guides: readonly Guide[], count: number): HostTensor {
  const size = 3 * imageSize * imageSize;
  const stacked = HostTensor.filled([count, 3 * guides.length, imageSize, imageSize], 0);
  guides.forEach(({ condition }, index) => {
    for (let row = 0; row < count; row++) {
      const image = condition.data.subarray(row * size, (row + 1) * size);
      stacked.data.set(image, (row * guides.length + index) * size);
    }
  });
  return stacked;
}

/** Median time of the student's picture, from prompt embedding to pixels, one at a time. */
export async function studentMs<D>(
  { backend, teacher }: StageOptions<D>,
  { unet: { params }, decoder }: Student,
  given: { readonly noise: HostTensor; readonly context: HostTensor },
  guides: readonly Guide[],
): Promise<number> {
  const condition = guides.length > 0 && { condition: stackConditions(guides, 1) };
  const inputs: typeof given = { ...given, ...condition };
  const generator = await backend.compile(oneStep(guided(studentPlan(teacher).config, guides)), {
    frozen: guidedParams(params, guides),
    inputs: specsOf(inputs),
  });
  const decoding = await backend.compile(tinyImageDecoder(tinyDecoderConfig), {
    frozen: decoder,
    inputs: { latents: latentSpec(1) },
  });
  const ms = await medianMs(30, async () => {
    const { latents } = await generator.run({}, inputs);
    await takeOutputs(backend, await decoding.run({}, { latents }));
    backend.dispose(latents);
  });
  await generator.dispose();
  await decoding.dispose();
  return ms;
}
