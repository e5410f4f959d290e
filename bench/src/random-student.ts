import { savePipelineFolder } from "@sdxs/runtime/node";
import { initialize } from "@sdxs/tensor";
import { planBlockRemoval, unetParameters } from "@sdxs/tiny-unet";
import { autoencoderTinyParameters } from "@sdxs/tiny-vae";
import { predictionType } from "../../recipes/diffusion-model.js";
import { tinyDecoderConfig } from "../../recipes/emoji/src/models.js";
import { readTeacher } from "../../recipes/emoji/src/teacher.js";

/** Counts from the repository's root, where the npm scripts run. */
const TEACHER = "recipes/emoji/teacher";

/**
 * Saves a pipeline of the shapes of the quickstart's student, whose tokenizer and text encoder are the teacher's and whose
 * U-Net and decoder are random: it takes a trained one's time and draws noise.
 */
export async function saveRandomStudent(folder: string): Promise<void> {
  const { tokenizer, textEncoder, unet } = await readTeacher(TEACHER);
  const { config } = planBlockRemoval(unet.config, "sdxs-512");
  await savePipelineFolder(folder, {
    components: {
      tokenizer,
      text_encoder: { className: "CLIPTextModel", ...textEncoder },
      unet: { className: "UNet2DConditionModel", config, params: initialize(unetParameters(config), 1) },
      vae: {
        className: "AutoencoderTiny",
        config: tinyDecoderConfig,
        params: initialize(autoencoderTinyParameters(tinyDecoderConfig), 2),
      },
      scheduler: {
        _class_name: "DEISMultistepScheduler",
        beta_start: 0.00085,
        beta_end: 0.012,
        beta_schedule: "scaled_linear",
        prediction_type: predictionType,
      },
    },
  });
}
