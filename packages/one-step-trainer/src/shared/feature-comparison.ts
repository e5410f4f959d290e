import { ShapeError, scope, type Ops, type TensorMap } from "@sdxs/tensor";
import { featureDistillationLoss, featureMatchingLoss } from "@sdxs/losses";
import type { FeatureExtractor } from "./plug-ins.js";

/** Options of L_FM, the comparison of the student's sample with the teacher's. */
export interface FeatureComparison {
  /** The frozen encoder f; its parameters are under "teacher.". */
  readonly features: FeatureExtractor;
  /** How feature maps are compared: by SSIM as in Equation 10 (default), or by their mean squared error. */
  readonly featureLoss?: "ssim" | "mse";
  /** w_l of Equation 10, one per feature map. Default 1 / number of maps: the paper publishes none. */
  readonly featureWeights?: readonly number[];
}

interface ComparedSamples<T> {
  readonly sample: T;
  readonly target: T;
  readonly context: T;
  readonly featureTimestep: T;
}

/** L_FM(x_theta(epsilon), psi(x_phi(epsilon))) of Equation 10, [batch]. */
export function compareFeatures<T>(
  ops: Ops<T>,
  params: TensorMap<T>,
  comparison: FeatureComparison,
  { sample, target, context, featureTimestep }: ComparedSamples<T>,
): T {
  const encode = (x: T): readonly T[] =>
    comparison.features(ops, scope(ops, params, "teacher"), { sample: x, timestep: featureTimestep, context });
  return compareMaps(ops, comparison, encode(sample), encode(target));
}

/** The same for given maps f(x). */
export function compareMaps<T>(
  ops: Ops<T>,
  { featureLoss = "ssim", featureWeights }: FeatureComparison,
  maps: readonly T[],
  targets: readonly T[],
): T {
  const distance = featureLoss === "ssim" ? featureMatchingLoss : featureDistillationLoss;
  return distance(ops, maps, targets, { weights: featureWeights ?? maps.map(() => 1 / maps.length) });
}

/** Throws `ShapeError` unless a noise and its target have one shape. */
export function checkPair<T>(ops: Ops<T>, where: string, noise: T, target: T): void {
  const expected = ops.shape(noise).join(", ");
  const received = ops.shape(target).join(", ");
  if (expected === received) return;
  throw new ShapeError(
    `${where}: target must be shaped as noise [${expected}], got [${received}]. ` +
      `Both live in the latent space; convert images by the encoder first.`,
  );
}
