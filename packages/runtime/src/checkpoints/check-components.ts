import { InvalidArgumentError, UnsupportedConfigError } from "@sdxs/tensor";
import type { Model } from "./open-model.js";
import type { ComponentName, PipelineComponents, TextToImageComponents } from "./components.js";

/** Components as far as their configurations tell what can be drawn with them: weights need not be there yet. */
export type ComponentConfigs = {
  readonly [K in ComponentName]?: PipelineComponents[K] extends Model
    ? Pick<PipelineComponents[K], "className" | "config">
    : PipelineComponents[K] extends readonly Model[]
      ? readonly Pick<PipelineComponents[K][number], "className" | "config">[]
      : PipelineComponents[K];
};

const REQUIRED = ["unet", "vae", "text_encoder", "tokenizer", "scheduler"] as const;

/** diffusers' U-Nets whose input is not the latents alone, by its channels where latents have 4. */
const INPUTS_BESIDE_LATENTS: Readonly<Record<number, string>> = {
  5: "a depth map (StableDiffusionDepth2ImgPipeline)",
  7: "a low-resolution picture (StableDiffusionUpscalePipeline)",
  8: "a picture to edit (StableDiffusionInstructPix2PixPipeline)",
  9: "a mask and a masked picture (StableDiffusionInpaintPipeline)",
};

/** SDXL's height and width, crop and target size. */
const SIZES = 6;

/**
 * Throws where `createPipeline` cannot draw with these components: InvalidArgumentError, naming those that are missing;
 * UnsupportedConfigError, naming what does not fit together, or a kind of model that is not supported.
 */
export function checkTextToImage(
  caller: string,
  components: ComponentConfigs,
): asserts components is ComponentConfigs & Required<Pick<ComponentConfigs, (typeof REQUIRED)[number]>> {
  const { unet, vae, text_encoder: first, text_encoder_2: second, controlnet = [] } = components;
  const refuse = (problem: string): never => {
    throw new UnsupportedConfigError(`${caller}: ${problem}`);
  };
  if (unet !== undefined) {
    const { projection_class_embeddings_input_dim: total, addition_time_embed_dim: each } = unet.config;
    const pooled = second?.config.projection_dim;
    if (total !== null && each !== null && pooled !== undefined && total !== pooled + SIZES * each) {
      refuse(
        `the U-Net takes ${(total - pooled) / each} numbers beside the pooled text embedding, and ${SIZES} are given: height ` +
          `and width, crop, and target size. Stable Diffusion XL's refiner is such a model, and is not supported. Use the base model.`,
      );
    }
  }
  const isXl = unet !== undefined && unet.config.addition_embed_type !== null;
  const needed: readonly ComponentName[] = [...REQUIRED, ...(isXl ? (["text_encoder_2", "tokenizer_2"] as const) : [])];
  const missing = needed.filter((name) => components[name] === undefined);
  if (missing.length > 0) {
    const asXl = isXl
      ? ` (its "addition_embed_type" is ${JSON.stringify(unet.config.addition_embed_type)}, as in Stable Diffusion XL)`
      : "";
    throw new InvalidArgumentError(
      `${caller}: a pipeline with this U-Net${asXl} also needs the components ${missing.join(", ")}. Load them with the others.`,
    );
  }
  const { in_channels: inputs, out_channels: outputs, cross_attention_dim: context } = unet!.config;
  const latents = vae!.config.latent_channels;
  if (inputs !== latents || outputs !== latents) {
    const beside = latents === 4 && outputs === 4 ? INPUTS_BESIDE_LATENTS[inputs] : undefined;
    refuse(
      `the U-Net takes ${inputs} channels and gives ${outputs}, and the autoencoder's latents have ${latents}. ` +
        (beside === undefined
          ? "Use an autoencoder and a U-Net of one model."
          : `It takes latents and ${beside}, which is not supported. Use a text-to-image model.`),
    );
  }
  const given = isXl ? [first!, second!] : [first!];
  const features = given.map(({ config }) => config.hidden_size);
  if (features.reduce((sum, size) => sum + size, 0) !== context) {
    refuse(
      `the U-Net attends to ${context} features ("cross_attention_dim"), and the text encoder${isXl ? "s give" : " gives"} ` +
        `${features.join(" + ")} ("hidden_size"). Use a text encoder and a U-Net of one model.`,
    );
  }
  if (isXl && second!.className !== "CLIPTextModelWithProjection") {
    refuse(`text_encoder_2 is a ${second!.className}; Stable Diffusion XL needs a CLIPTextModelWithProjection there.`);
  }
  for (const [index, { config }] of controlnet.entries()) {
    for (const field of ["cross_attention_dim", "in_channels", "block_out_channels", "addition_embed_type"] as const) {
      const [own, theirs] = [config[field], unet!.config[field]].map((value) => JSON.stringify(value));
      if (own !== theirs) {
        refuse(
          `ControlNet ${index} was made for another U-Net: its "${field}" is ${own}, the U-Net's is ${theirs}. Use a ControlNet of ` +
            `this model's family.`,
        );
      }
    }
  }
}

/**
 * Components of which a pipeline can be made.
 *
 * @throws as `checkTextToImage`
 */
export function textToImageComponents(caller: string, components: Partial<PipelineComponents>): TextToImageComponents {
  checkTextToImage(caller, components);
  return components;
}
