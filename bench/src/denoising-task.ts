import {
  random,
  scope,
  withGradients,
  type HostTensor,
  type Program,
  type TensorMap,
  type TensorSpec,
} from "@sdxs/tensor";
import { unet, type UNetConfig } from "@sdxs/tiny-unet";

/** CLIP's context length. */
const CONTEXT_TOKENS = 77;
/** SDXL: original size, crop and target size, two numbers each. */
const TIME_IDS = 6;
/** Timesteps of Stable Diffusion's noise schedule. */
const SCHEDULE_STEPS = 1000;

export interface TaskOptions {
  readonly batch: number;
  /** Of the latents. */
  readonly height: number;
  readonly width: number;
  /** Compute each block again for the gradient. Default false. */
  readonly checkpointing?: boolean;
}

/** What is timed: a U-Net learning to predict a target, its inputs under diffusers' names. */
export interface DenoisingTask {
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  /** The output `sample` [batch, out_channels, height, width]. */
  readonly predict: Program;
  /** The output `loss`, the mean squared error, and its gradients "grad.NAME". */
  readonly learn: (parameterNames: readonly string[]) => Program;
}

export function denoisingTask(config: UNetConfig, options: TaskOptions): DenoisingTask {
  const { batch, height, width, checkpointing: gradientCheckpointing = false } = options;
  const inputs: Record<string, TensorSpec> = {
    sample: { shape: [batch, config.in_channels, height, width] },
    timestep: { shape: [batch], dtype: "int32" },
    encoder_hidden_states: { shape: [batch, CONTEXT_TOKENS, config.cross_attention_dim] },
  };
  if (config.addition_embed_type === "text_time") {
    const allFeatures = config.projection_class_embeddings_input_dim ?? 0;
    const textFeatures = allFeatures - TIME_IDS * (config.addition_time_embed_dim ?? 0);
    inputs["text_embeds"] = { shape: [batch, textFeatures] };
    inputs["time_ids"] = { shape: [batch, TIME_IDS] };
  }

  const predict: Program = (ops, params, given) => {
    const { text_embeds: textEmbeds, time_ids: timeIds } = given;
    const { sample } = unet(ops, scope(ops, params), config, {
      sample: given["sample"]!,
      timestep: given["timestep"]!,
      encoderHiddenStates: given["encoder_hidden_states"]!,
      gradientCheckpointing,
      ...(textEmbeds !== undefined && timeIds !== undefined && { addedConditions: { textEmbeds, timeIds } }),
    });
    return { sample };
  };
  const meanSquaredError: Program = (ops, params, given) => {
    const prediction = predict(ops, params, given)["sample"]!;
    return { loss: ops.mean(ops.square(ops.sub(prediction, given["target"]!))) };
  };
  return { inputs, predict, learn: (parameterNames) => withGradients(meanSquaredError, parameterNames) };
}

/** The target's shape beside the task's inputs: what `learn` takes. */
export function learningInputs(config: UNetConfig, task: DenoisingTask): Readonly<Record<string, TensorSpec>> {
  const [batch = 1, , height = 1, width = 1] = task.inputs["sample"]?.shape ?? [];
  return { ...task.inputs, target: { shape: [batch, config.out_channels, height, width] } };
}

/** Normally distributed inputs, and timesteps over the whole schedule. */
export function randomInputs(specs: Readonly<Record<string, TensorSpec>>, seed: number): TensorMap<HostTensor> {
  const stream = random(seed, "bench inputs");
  return Object.fromEntries(
    Object.entries(specs).map(([name, { shape, dtype }]) => [
      name,
      dtype === "int32" ? stream.at(name).integers(shape, 0, SCHEDULE_STEPS) : stream.at(name).normal(shape),
    ]),
  );
}
