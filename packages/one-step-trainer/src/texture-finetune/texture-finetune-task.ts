import { HostTensor, initialize, prefixed, scope, type HostParams, type Program } from "@sdxs/tensor";
import { loraParameters, loraTargets, type Lora, type LoraOptions } from "@sdxs/lora";
import { alternatingTask, type AlternatingTask } from "@sdxs/training";
import { featureDiscriminatorParameters } from "../shared/feature-discriminator.js";
import {
  alternatingOptions,
  batchSpecs,
  computeOnce,
  type Optimisation,
  type PairBatch,
  type TaskOptions,
} from "../shared/task-options.js";
import { adaptedSample, textureFinetune, type TextureFinetuneOptions, type TextureInput } from "./texture-finetune.js";

export interface TextureFinetuneTaskOptions<D> extends Omit<TextureFinetuneOptions, "alphas">, TaskOptions<D> {
  /** The one-step DM after score distillation, and further frozen parameters. */
  readonly params: { readonly student: HostParams; readonly teacher: HostParams };
  /**
   * Default: rank 2, "extremely low", of attention and of the residual blocks' convolutions (chosen: the paper publishes
   * neither; its U-Net has no attention at the highest resolution, where texture is made).
   */
  readonly lora?: Partial<LoraOptions>;
  /** Both players' micro-batches. Must be the same for the same indices, each time. */
  readonly pairs: (update: number, microBatch: number) => PairBatch | Promise<PairBatch>;
  /** Updates of the discriminator for each of the LoRA. Default 1. */
  readonly discriminatorUpdates?: number;
  /** Timestep input of the features' network. Default 0: samples are clean. */
  readonly featureTimestep?: number;
  readonly optimisation: { readonly lora: Optimisation; readonly discriminator: Optimisation };
}

export interface TextureFinetuneTask extends AlternatingTask<"discriminator" | "lora"> {
  /** The current LoRA, or its moving average: for `writeLora` and `mergeLora` of @sdxs/lora. */
  lora(options?: { readonly averaged?: boolean }): Promise<Lora<HostTensor>>;
  /**
   * Samples to look at after `step` updates: those of that update's micro-batch 0, and the student's of the same noises
   * without the LoRA, each [batch, ...sampleShape]. Compiles a separate program and disposes of it.
   */
  samples(step: number): Promise<Record<"sample" | "unadapted", HostTensor>>;
}

/**
 * The texture finetune as a task for `train` of "@sdxs/training": in each step `discriminatorUpdates` updates of the
 * discriminator, then one of the LoRA. Both begin from the seed, the LoRA so that it changes nothing.
 *
 * Metrics: those of `textureFinetune`'s programs with "discriminator." and "lora." before their names; see also `distillationWarnings`.
 *
 * @throws InvalidArgumentError where an option is out of range, or a target of the LoRA matches no layer of the student.
 *
 * @example
 * const task = await textureFinetuneTask({
 *   name: "texture", backend, seed: 1, steps: 500, batchSize: 16, sampleShape: [4, 16, 16], contextShape: [20, 128],
 *   student, features, params, pairs,
 *   optimisation: { lora: { optimizer, learningRate }, discriminator: { optimizer, learningRate } },
 * });
 * await train(task, { checkpoints });
 * const lora = await task.lora();
 * const file = writeLora({ unet: lora }, { unet: params.student }, "diffusers"); // for diffusers, or
 * const student = mergeLora(params.student, [lora]); // weights that are as fast as before
 */
export async function textureFinetuneTask<D>(options: TextureFinetuneTaskOptions<D>): Promise<TextureFinetuneTask> {
  const { backend, seed, batchSize, microBatches = 1, discriminatorUpdates = 1, params, optimisation } = options;
  const declared = loraParameters(params.student, {
    rank: 2,
    targets: [...loraTargets.attention, ...loraTargets.convolutions],
    ...options.lora,
  });
  const { alphas } = declared;
  const programs = textureFinetune({ ...options, alphas });
  const { sample, context, perSample } = batchSpecs(options);
  const given = {
    frozen: { ...prefixed(params.student, "student."), ...prefixed(params.teacher, "teacher.") },
    inputs: { noise: sample, target: sample, context, featureTimestep: perSample },
    microBatches,
    batch: async (update: number, microBatch: number) => ({
      ...(await options.pairs(update, microBatch)),
      featureTimestep: HostTensor.filled([batchSize], options.featureTimestep ?? 0),
    }),
  };

  const task = await alternatingTask({
    ...alternatingOptions(options),
    learners: {
      discriminator: {
        ...given,
        program: programs.discriminator,
        params: initialize(featureDiscriminatorParameters(options, options), `discriminator ${seed}`),
        updates: discriminatorUpdates,
        ...optimisation.discriminator,
      },
      lora: {
        ...given,
        program: programs.lora,
        params: initialize(declared.params, `lora ${seed}`),
        ...optimisation.lora,
      },
    },
  });
  return {
    ...task,
    lora: async (which) => ({ params: await task.weights("lora", which), alphas }),

    async samples(step) {
      const current = { ...given.frozen, ...prefixed(await task.weights("lora"), "lora.") };
      const program: Program<TextureInput, "sample" | "unadapted"> = (ops, all, inputs) => ({
        sample: adaptedSample(ops, all, { ...options, alphas }, inputs),
        unadapted: options.student(ops, scope(ops, all, "student"), inputs),
      });
      return computeOnce(backend, program, current, given.inputs, await given.batch(step, 0));
    },
  };
}
