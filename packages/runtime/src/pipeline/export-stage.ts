import { planFromConfig } from "@sdxs/diffusion";
import {
  InvalidArgumentError,
  prefixed,
  UnsupportedConfigError,
  select,
  type CompileSpec,
  type HostParams,
  type Ops,
  type Program,
  type TensorMap,
} from "@sdxs/tensor";
import { exportOnnx, type ExportOnnxOptions, type SerializedModel } from "@sdxs/tensor/onnx";
import { pixelsPerLatent } from "./picture-size.js";
import type { GenerateOptions } from "./pipeline-types.js";
import type { TextToImageComponents } from "../checkpoints/components.js";
import {
  autoencoderWeights,
  decoderProgram,
  denoiserWeights,
  factorsOf,
  promptProgram,
  promptTokens,
  stepProgram,
  textWeights,
  type PromptInput,
  type StepInput,
} from "./pipeline-programs.js";
import { latentShape } from "./pipeline-request.js";
import { pipelineScheduler } from "./pipeline-scheduler.js";

/** The parts of a pipeline that can be written as ONNX files. */
export const exportStages = ["text_encoder", "unet", "decoder", "whole"] as const;
export type ExportStage = (typeof exportStages)[number];

export interface ExportStageOptions extends Omit<ExportOnnxOptions, "multiples"> {
  /** Prompts and pictures at a time. Default 1. */
  readonly batch?: number | "any";
  /** Pixels of a picture. Default: what the U-Net was trained on. */
  readonly width?: number | "any";
  readonly height?: number | "any";
  /** In which the model computes, see `CompileSpec.precision`. Its inputs and outputs stay float32. Default "float32". */
  readonly precision?: CompileSpec["precision"];
}

/**
 * Writes a stage of a one-step pipeline as an ONNX model. "any" leaves the batch or a side of the picture open, as the
 * symbolic dimensions "batch", "width" and "height" (those of latents, which the U-Net halves a few times: multiples of
 * 8 for Stable Diffusion's). A fixed size lets onnxruntime plan ahead.
 *
 * - text_encoder: `ids` int32 [batch, tokens] of the pipeline's tokenizer to `context` [batch, tokens, features].
 * - unet: standard normal `noise` [batch, 4, height / 8, width / 8] and `context` to `latents`. The timestep, the
 *   scheduler's conversion to x0 and all scales are part of it. No guidance, no ControlNets.
 * - decoder: `latents` to `images` [batch, 3, height, width], red first, in [-1, 1].
 * - whole: `ids` and `noise` to `images`.
 *
 * @throws InvalidArgumentError for a batch or a size that does not fit, and those of `exportOnnx`.
 *
 * @example
 * const { model } = exportStage(components, "whole", { weights: "float16" });
 * await writeFile("sdxs.onnx", model);
 */
export function exportStage(
  components: TextToImageComponents,
  stage: ExportStage,
  { batch = 1, width, height, precision = "float32", ...options }: ExportStageOptions = {},
): SerializedModel {
  if (batch !== "any" && (!Number.isInteger(batch) || batch < 1)) {
    throw new InvalidArgumentError(`exportStage: batch must be a whole number of at least 1 or "any", got ${batch}.`);
  }
  if (components.text_encoder_2 !== undefined) {
    throw new UnsupportedConfigError(
      "exportStage: pipelines of two text encoders, as Stable Diffusion XL's, are not exported. Export their networks by exportOnnx.",
    );
  }
  if (components.unet.config.time_cond_proj_dim !== null) {
    throw new UnsupportedConfigError(
      "exportStage: a latent consistency model's U-Net takes its guidance as an input, and is not exported. Export it by exportOnnx.",
    );
  }
  const tokens = promptTokens(components);
  const images = batch === "any" ? "batch" : batch;
  const ids = { shape: [images, tokens], dtype: "int32" } as const;
  const context = { shape: [images, tokens, components.text_encoder.config.hidden_size] };
  const latents = { shape: openLatentShape(components, images, width, height) };
  const halvings = components.unet.config.block_out_channels.length - 1;
  const sides = ["height", "width"].filter((side) => latents.shape.includes(side));
  const ofUNet = { ...options, multiples: Object.fromEntries(sides.map((side) => [side, 2 ** halvings])) };

  switch (stage) {
    case "text_encoder":
      return exportOnnx(
        textProgram(components),
        { frozen: textWeights(components), inputs: { ids }, precision },
        options,
      );
    case "unet": {
      const spec = { frozen: denoiserWeights(components), inputs: { noise: latents, context }, precision };
      return exportOnnx(oneStepProgram(components), spec, ofUNet);
    }
    case "decoder":
      return exportOnnx(
        decoderProgram(components),
        { frozen: autoencoderWeights(components, "decoder"), inputs: { latents }, precision },
        options,
      );
    case "whole":
      return exportOnnx(
        wholeProgram(components),
        { frozen: wholeWeights(components), inputs: { ids, noise: latents }, precision },
        ofUNet,
      );
  }
}

/** Shape of the latents, with the name of each side that may have any size. */
function openLatentShape(
  components: TextToImageComponents,
  images: number | string,
  width: ExportStageOptions["width"],
  height: ExportStageOptions["height"],
): (number | string)[] {
  const factor = pixelsPerLatent(components);
  const pixels = (side: ExportStageOptions["width"]): number | undefined => (side === "any" ? factor : side);
  const size: GenerateOptions = {
    ...(width !== undefined && { width: pixels(width)! }),
    ...(height !== undefined && { height: pixels(height)! }),
  };
  const [, channels = 1, rows = 1, columns = 1] = latentShape(components, 1, size);
  return [images, channels, height === "any" ? "height" : rows, width === "any" ? "width" : columns];
}

/** Ids to embeddings, without what Stable Diffusion XL adds. */
function textProgram(components: TextToImageComponents): Program<"ids", "context"> {
  const program = promptProgram(components);
  return <T>(ops: Ops<T>, params: TensorMap<T>, inputs: Readonly<Record<"ids", T>>) => ({
    context: program(ops, params, inputs as Readonly<Record<PromptInput, T>>).context,
  });
}

/** Noise to latents in the only step of the scheduler's plan. */
function oneStepProgram(components: TextToImageComponents): Program<"noise" | "context", "latents"> {
  const plan = planFromConfig(pipelineScheduler(components), 1);
  const [step] = plan.steps;
  const factors = factorsOf(step!, { predictions: 0, base: false });
  const program = stepProgram(components);
  return <T>(ops: Ops<T>, params: TensorMap<T>, { noise, context }: Readonly<Record<"noise" | "context", T>>) => {
    const inputs: Partial<Record<StepInput, T>> = {
      sample: ops.mul(noise, plan.initNoiseSigma),
      noise,
      context,
      timestep: ops.constant(Float32Array.of(step!.timestep), [1]),
      factors: ops.constant(factors.data, factors.shape),
    };
    return { latents: program(ops, params, inputs as Readonly<Record<StepInput, T>>).sample };
  };
}

function wholeProgram(components: TextToImageComponents): Program<"ids" | "noise", "images"> {
  const encode = textProgram(components);
  const draw = oneStepProgram(components);
  const decode = decoderProgram(components);
  return (ops, params, { ids, noise }) => {
    const { context } = encode(ops, params, { ids });
    const { latents } = draw(ops, params, { noise, context });
    return decode(ops, select(params, "vae."), { latents });
  };
}

const wholeWeights = (components: TextToImageComponents): HostParams => ({
  ...textWeights(components),
  ...denoiserWeights(components),
  ...prefixed(autoencoderWeights(components, "decoder"), "vae."),
});
