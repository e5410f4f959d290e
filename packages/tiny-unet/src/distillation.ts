import { InvalidArgumentError, scope, type Ops, type Program } from "@sdxs/tensor";
import { featureDistillationLoss, outputDistillationLoss } from "@sdxs/losses";
import type { BlockRemovalPlan } from "./block-removal.js";
import { namedFeatures, unet, type UNetFeatures } from "./unet.js";
import type { UNetConfig } from "./unet-config.js";

export interface UNetDistillationWeights {
  /** Of L_OKD. Default 1, Equation 8's. 0 leaves the outputs to the features. */
  readonly outputWeight?: number;
  /** lambda_F of Equation 8. Default 1, BK-SDM's; the paper publishes none. 0 leaves the features out. */
  readonly featureWeight?: number;
  /** One weight per pair of features. Default 1 each. */
  readonly featureWeights?: readonly number[];
}

/** The outputs of `unet`. */
interface UNetOutput<T> {
  readonly sample: T;
  readonly features: UNetFeatures<T>;
}

/**
 * Equation 8 of the SDXS paper (https://arxiv.org/abs/2403.16627) between what a student and its teacher make of the same
 * inputs: L_KD = L_OKD + lambda_F L_FKD. No gradient flows into the teacher.
 *
 * @param pairs of features of one shape, by the names of `namedFeatures`
 * @returns `loss`, `outputLoss` and `featureLoss`, means over the batch; `perSample` [batch], of which `loss` is the mean
 *
 * Throws `InvalidArgumentError` for pairs that one of the networks lacks and where nothing has a weight, `ShapeError` for
 * pairs of different shapes.
 *
 * @example
 * const { loss } = unetDistillationLoss(ops, unet(ops, p, config, inputs), unet(ops, q, teacher, inputs), plan.features);
 */
export function unetDistillationLoss<T>(
  ops: Ops<T>,
  student: UNetOutput<T>,
  teacher: UNetOutput<T>,
  pairs: BlockRemovalPlan["features"],
  weights: UNetDistillationWeights = {},
): { readonly loss: T; readonly outputLoss: T; readonly featureLoss: T; readonly perSample: T } {
  const { outputWeight = 1, featureWeight = 1, featureWeights } = weights;
  const withFeatures = usesFeatures(pairs, weights);
  const output = outputDistillationLoss(ops, student.sample, teacher.sample); // Equation 6
  const outputLoss = ops.mean(output);
  const weightedOutput = outputWeight === 1 ? output : ops.mul(outputWeight, output);
  if (!withFeatures) {
    return { loss: ops.mean(weightedOutput), outputLoss, featureLoss: ops.scalar(0), perSample: weightedOutput };
  }

  const [ofStudent, ofTeacher] = [namedFeatures(student.features), namedFeatures(teacher.features)];
  const features = featureDistillationLoss(
    ops,
    pairs.map((pair) => find(ofStudent, "student", pair.student)),
    pairs.map((pair) => find(ofTeacher, "teacher", pair.teacher)),
    featureWeights === undefined ? {} : { weights: featureWeights },
  ); // Equation 7
  const perSample = ops.add(weightedOutput, ops.mul(featureWeight, features)); // Equation 8
  return { loss: ops.mean(perSample), outputLoss, featureLoss: ops.mean(features), perSample };
}

export interface UNetDistillationOptions extends UNetDistillationWeights {
  /** The teacher's configuration, from which `plan` was made. */
  readonly teacher: UNetConfig;
  /** The student's configuration and the pairs of features to match. */
  readonly plan: Pick<BlockRemovalPlan, "config" | "features">;
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
  const { teacher, plan, gradientCheckpointing = false, ...weights } = options;
  usesFeatures(plan.features, weights); // throws now where training would fail later
  return (ops, params, inputs) => {
    const original = unet(ops, scope(ops, params, "teacher"), teacher, inputs);
    const student = unet(ops, scope(ops, params, "student"), plan.config, { ...inputs, gradientCheckpointing });
    return unetDistillationLoss(ops, student, original, plan.features, weights);
  };
}

/** Whether the features have a weight. Throws `InvalidArgumentError` where neither they nor the outputs have one. */
function usesFeatures(
  pairs: BlockRemovalPlan["features"],
  { outputWeight = 1, featureWeight = 1 }: UNetDistillationWeights,
): boolean {
  const withFeatures = featureWeight !== 0 && pairs.length > 0;
  if (outputWeight !== 0 || withFeatures) return withFeatures;
  throw new InvalidArgumentError(
    "unetDistillation: every weight is 0. Give outputWeight or featureWeight a value other than 0.",
  );
}

function find<T>(features: Readonly<Record<string, T>>, network: string, name: string): T {
  const feature = features[name];
  if (feature === undefined) {
    throw new InvalidArgumentError(
      `unetDistillationLoss: the ${network} has no feature "${name}"; it has ${Object.keys(features).join(", ")}. ` +
        `Use a plan that was made from this teacher.`,
    );
  }
  return feature;
}
