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
  /** Of L_OKD. Default 1, Equation 8's. 0 leaves the outputs to the features. */
  readonly outputWeight?: number;
  /** lambda_F of Equation 8. Default 1, BK-SDM's; the paper publishes none. 0 leaves the features out. */
  readonly featureWeight?: number;
  /** One weight per pair of `plan.features`. Default 1 each. */
  readonly featureWeights?: readonly number[];
  /** Of the student, see `UNetInputs`. Default false. */
  readonly gradientCheckpointing?: boolean;
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
 * Throws `InvalidArgumentError` for pairs that one of the networks lacks and where both weights are 0, `ShapeError` for
 * pairs of different shapes.
 *
 * @example
 * const plan = planBlockRemoval(teacher, "sdxs-512");
 * const program = unetDistillation({ teacher, plan });
 */
export function unetDistillation(
  options: UNetDistillationOptions,
): Program<"sample" | "timestep" | "encoderHiddenStates", "loss" | "outputLoss" | "featureLoss" | "perSample"> {
  const { teacher, plan, outputWeight = 1, featureWeight = 1, featureWeights, gradientCheckpointing = false } = options;
  const withFeatures = featureWeight !== 0 && plan.features.length > 0;
  if (outputWeight === 0 && !withFeatures) {
    throw new InvalidArgumentError(
      "unetDistillation: there is nothing to learn from. Give outputWeight or featureWeight a value other than 0.",
    );
  }
  return (ops, params, inputs) => {
    const original = unet(ops, scope(ops, params, "teacher"), teacher, inputs);
    const student = unet(ops, scope(ops, params, "student"), plan.config, { ...inputs, gradientCheckpointing });
    const output = outputDistillationLoss(ops, student.sample, original.sample); // Equation 6
    const outputLoss = ops.mean(output);
    const weightedOutput = outputWeight === 1 ? output : ops.mul(outputWeight, output);
    if (!withFeatures) {
      return { loss: ops.mean(weightedOutput), outputLoss, featureLoss: ops.scalar(0), perSample: weightedOutput };
    }

    const originalFeatures = namedFeatures(original.features);
    const studentFeatures = namedFeatures(student.features);
    const features = featureDistillationLoss(
      ops,
      plan.features.map((pair) => find(studentFeatures, "student", pair.student)),
      plan.features.map((pair) => find(originalFeatures, "teacher", pair.teacher)),
      featureWeights === undefined ? {} : { weights: featureWeights },
    ); // Equation 7
    const perSample = ops.add(weightedOutput, ops.mul(featureWeight, features)); // Equation 8
    return { loss: ops.mean(perSample), outputLoss, featureLoss: ops.mean(features), perSample };
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
