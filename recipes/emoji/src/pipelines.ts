import { oneStepScheduler } from "@sdxs/diffusion";
import type { TextToImageComponents } from "@sdxs/runtime";
import { HostTensor, mapTensors } from "@sdxs/tensor";
import { autoencoderTinyParameters } from "@sdxs/tiny-vae";
import type { Student } from "./distil.js";
import { schedulerConfig } from "../../diffusion-model.js";
import { tinyDecoderConfig } from "./models.js";
import type { Teacher } from "./teacher.js";

/** The teacher as a whole pipeline, for `createPipeline` and `savePipelineFolder`. */
export function teacherPipeline({ tokenizer, textEncoder, unet, autoencoder }: Teacher): TextToImageComponents {
  return {
    scheduler: schedulerConfig,
    tokenizer,
    text_encoder: { className: "CLIPTextModel", ...textEncoder },
    unet: { className: "UNet2DConditionModel", ...unet },
    vae: { className: "AutoencoderKL", ...autoencoder },
  };
}

/** A student as a whole pipeline. Where no encoder was trained its weights are zeros: it then draws from noise alone. */
export function studentPipeline(teacher: Teacher, { unet, decoder, encoder }: Student): TextToImageComponents {
  const zeros = mapTensors(autoencoderTinyParameters(tinyDecoderConfig), ({ shape }) => HostTensor.filled(shape, 0));
  return {
    ...teacherPipeline(teacher),
    scheduler: oneStepScheduler(schedulerConfig),
    unet: { className: "UNet2DConditionModel", ...unet },
    vae: { className: "AutoencoderTiny", config: tinyDecoderConfig, params: { ...zeros, ...encoder, ...decoder } },
  };
}
