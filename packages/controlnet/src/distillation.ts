import { scope, type Program } from "@sdxs/tensor";
import {
  unet,
  unetDistillationLoss,
  type BlockRemovalPlan,
  type UNetConfig,
  type UNetDistillationWeights,
} from "@sdxs/tiny-unet";
import { controlNet } from "./controlnet.js";
import type { ControlNetConfig } from "./controlnet-config.js";

export interface ControlNetDistillationOptions extends UNetDistillationWeights {
  /** The teacher's U-Net, from which `plan` was made, and its ControlNet. */
  readonly teacher: { readonly unet: UNetConfig; readonly controlNet: ControlNetConfig };
  /** The tiny U-Net and its pairs of features with the teacher's. */
  readonly plan: Pick<BlockRemovalPlan, "config" | "features">;
  /** The tiny U-Net's ControlNet, see `controlNetFromUNet`. */
  readonly controlNet: ControlNetConfig;
}

/**
 * Distils a teacher's ControlNet into the tiny U-Net's, Section 3.1 of the SDXS paper (https://arxiv.org/abs/2403.16627):
 * each is combined with its U-Net, and what is compared is the U-Nets' outputs and the feature maps of their decoders,
 * since a ControlNet does not change those of an encoder.
 *
 * Parameters: those in training under "controlnet."; frozen "student." (the tiny U-Net's), "teacher.unet." and
 * "teacher.controlnet.". Inputs: those of `unetDistillation`, and `condition` [batch, channels, 8 * height, 8 * width], RGB
 * from 0 to 1. Outputs: those of `unetDistillationLoss`.
 *
 * `featureWeights`, where given, are for the pairs of the decoders alone. Throws as `unetDistillationLoss` and `controlNet`.
 *
 * @example
 * const plan = planBlockRemoval(teacherUNet, "sdxs-512");
 * const { config } = controlNetFromUNet(plan.config);
 * const program = controlNetDistillation({ teacher: { unet: teacherUNet, controlNet: edges }, plan, controlNet: config });
 */
export function controlNetDistillation(
  options: ControlNetDistillationOptions,
): Program<
  "sample" | "timestep" | "encoderHiddenStates" | "condition",
  "loss" | "outputLoss" | "featureLoss" | "perSample"
> {
  const { teacher, plan, controlNet: config, ...weights } = options;
  const decoderFeatures = plan.features.filter(({ student }) => student.startsWith("up_blocks."));
  return (ops, params, inputs) => {
    const p = scope(ops, params);
    const original = unet(ops, p.at("teacher.unet"), teacher.unet, {
      ...inputs,
      controlResiduals: controlNet(ops, p.at("teacher.controlnet"), teacher.controlNet, inputs),
    });
    const student = unet(ops, p.at("student"), plan.config, {
      ...inputs,
      controlResiduals: controlNet(ops, p.at("controlnet"), config, inputs),
    });
    return unetDistillationLoss(ops, student, original, decoderFeatures, weights);
  };
}
