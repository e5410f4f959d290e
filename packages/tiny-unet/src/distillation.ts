import { InvalidArgumentError, scope, type Program } from "@sdxs/tensor";
import { featureDistillationLoss, outputDistillationLoss } from "@sdxs/losses";
import type { BlockRemovalPlan } from "./block-removal.js";
import { namedFeatures, unet } from "./unet.js";
import type { UNetConfig } from "./unet-config.js";

export interface UNetDistillationOptions {
  /** The teacher's configuration, from which `plan` was made. */
  readonly teacher: UNetConfig;
  /** The student's configuration and the pairs of features to match. */
  readonly plan: Pick<BlockRemovalPlan, "config" | "features">;
  /** lambda_F of Equation 8. Default 1, BK-SDM's; the paper publishes none. 0 leaves the features out. */
  readonly featureWeight?: number;
  /** One weight per pair of `plan.features`. Default 1 each. */
  readonly featureWeights?: readonly number[];
}

/**
 * Block-removal distillation of a U-Net: Equation 8 of the SDXS paper (https://arxiv.org/abs/2403.16627),
 * L_KD = L_OKD + lambda_F L_FKD, without the denoising loss of BK-SDM.
 *
 * Parameters: the teacher's under "teacher." (frozen: no gradient flows into its outputs) and the student's under
 * "student.". Inputs: noisy latents `sample` [batch, channels, height, width], `timestep` [batch] and
 * `encoderHiddenStates` [batch, tokens, features]. Outputs: `loss`, `outputLoss` and `featureLoss`, means over the batch;
 * `perSample` [batch], of which `loss` is the mean. Models with added conditions (SDXL) are not supported.
 *
 * Throws `InvalidArgumentError` for pairs that one of the networks lacks, `ShapeError` for pairs of different shapes.
 *
 * @example
 * const plan = planBlockRemoval(teacher, "sdxs-512");
 * const program = unetDistillation({ teacher, plan });
 */
export function unetDistillation(
  options: UNetDistillationOptions,
): Program<"sample" | "timestep" | "encoderHiddenStates", "loss" | "outputLoss" | "featureLoss" | "perSample"> {
  const { teacher, plan, featureWeight = 1, featureWeights } = options;
  return (ops, params, inputs) => {
    const original = unet(ops, scope(ops, params, "teacher"), teacher, inputs);
    const student = unet(ops, scope(ops, params, "student"), plan.config, inputs);
    const output = outputDistillationLoss(ops, student.sample, original.sample); // Equation 6
    if (featureWeight === 0 || plan.features.length === 0) {
      const outputLoss = ops.mean(output);
      return { loss: outputLoss, outputLoss, featureLoss: ops.scalar(0), perSample: output };
    }

    const originalFeatures = namedFeatures(original.features);
    const studentFeatures = namedFeatures(student.features);
    const features = featureDistillationLoss(
      ops,
      plan.features.map((pair) => find(studentFeatures, "student", pair.student)),
      plan.features.map((pair) => find(originalFeatures, "teacher", pair.teacher)),
      featureWeights === undefined ? {} : { weights: featureWeights },
    ); // Equation 7
    const perSample = ops.add(output, ops.mul(featureWeight, features)); // Equation 8
    return { loss: ops.mean(perSample), outputLoss: ops.mean(output), featureLoss: ops.mean(features), perSample };
  };
}

function find<T>(features: Readonly<Record<string, T>>, network: string, name: string): T {
  const feature = features[name];
  if (feature === undefined) {
    throw new InvalidArgumentError(
      `unetDistillation: the ${network} has no feature "${name}"; it has ${Object.keys(features).join(", ")}. ` +
        `Use a plan that was made from this teacher.`,
    );
  }
  return feature;
}
