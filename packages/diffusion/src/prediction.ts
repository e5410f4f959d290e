import { UnsupportedConfigError, checkFields, tensorShape, unknownName, type Operand, type Ops } from "@sdxs/tensor";
import { broadcastLevel, type NoiseLevel } from "./noise-schedule.js";

/**
 * What a network's output means: the noise, the velocity v = alpha noise - sigma x_0 (arXiv:2202.00512),
 * or the clean sample x_0. The names are those of diffusers' scheduler configurations.
 */
export type PredictionType = "epsilon" | "v_prediction" | "sample";

/** Coefficients of a linear combination of a noisy sample and a network's output. */
export interface LinearPrediction {
  readonly sample: number;
  readonly output: number;
}

const predictionTypes: readonly PredictionType[] = ["epsilon", "v_prediction", "sample"];

/** The number of axes. Throws `InvalidArgumentError` for what is no tensor, and for a level without alpha and sigma. */
function checkSamples<T>(
  ops: Ops<T>,
  where: string,
  samples: Readonly<Record<string, T>>,
  level: NoiseLevel<Operand<T>>,
): number {
  const [shape] = Object.entries(samples).map(([name, x]) => tensorShape(ops, where, name, x));
  checkFields(where, "level", level, ["alpha", "sigma"]);
  return shape?.length ?? 0;
}

/**
 * x_t = alpha x_0 + sigma noise.
 *
 * @param clean x_0 [batch, ...]
 * @param noise standard normal, shaped as `clean`
 * @param level numbers, or tensors [batch]
 */
export function addNoise<T>(ops: Ops<T>, clean: T, noise: T, level: NoiseLevel<Operand<T>>): T {
  const rank = checkSamples(ops, "addNoise", { clean, noise }, level);
  const { alpha, sigma } = broadcastLevel(ops, level, rank);
  return ops.add(ops.mul(alpha, clean), ops.mul(sigma, noise));
}

/** v = alpha noise - sigma x_0. Shapes as in `addNoise`. */
export function velocity<T>(ops: Ops<T>, clean: T, noise: T, level: NoiseLevel<Operand<T>>): T {
  const rank = checkSamples(ops, "velocity", { clean, noise }, level);
  const { alpha, sigma } = broadcastLevel(ops, level, rank);
  return ops.sub(ops.mul(alpha, noise), ops.mul(sigma, clean));
}

/** What a network of this prediction type should have put out. Shapes as in `addNoise`. */
export function predictionTarget<T>(
  ops: Ops<T>,
  type: PredictionType,
  clean: T,
  noise: T,
  level: NoiseLevel<Operand<T>>,
): T {
  switch (type) {
    case "epsilon":
      return noise;
    case "v_prediction":
      return velocity(ops, clean, noise, level);
    case "sample":
      return clean;
  }
  throw unknownName("predictionTarget", "type", type, predictionTypes);
}

/**
 * The clean sample x_0 that a network's output stands for.
 *
 * From epsilon it divides by alpha, which amplifies errors by up to 14.6 at Stable Diffusion's last timestep:
 * keep it in float32, and do not use it where alpha is 0.
 *
 * @param noisy x_t [batch, ...]
 * @param output the network's output, shaped as `noisy`
 * @param level numbers, or tensors [batch]
 */
export function predictedSample<T>(
  ops: Ops<T>,
  type: PredictionType,
  noisy: T,
  output: T,
  level: NoiseLevel<Operand<T>>,
): T {
  const rank = checkSamples(ops, "predictedSample", { noisy, output }, level);
  const { alpha, sigma } = broadcastLevel(ops, level, rank);
  switch (type) {
    case "epsilon":
      return ops.div(ops.sub(noisy, ops.mul(sigma, output)), alpha);
    case "v_prediction":
      return ops.sub(ops.mul(alpha, noisy), ops.mul(sigma, output));
    case "sample":
      return output;
  }
  throw unknownName("predictedSample", "type", type, predictionTypes);
}

/** The noise that a network's output stands for. Arguments as in `predictedSample`; from "sample" it divides by sigma. */
export function predictedNoise<T>(
  ops: Ops<T>,
  type: PredictionType,
  noisy: T,
  output: T,
  level: NoiseLevel<Operand<T>>,
): T {
  const rank = checkSamples(ops, "predictedNoise", { noisy, output }, level);
  const { alpha, sigma } = broadcastLevel(ops, level, rank);
  switch (type) {
    case "epsilon":
      return output;
    case "v_prediction":
      return ops.add(ops.mul(alpha, output), ops.mul(sigma, noisy));
    case "sample":
      return ops.div(ops.sub(noisy, ops.mul(alpha, output)), sigma);
  }
  throw unknownName("predictedNoise", "type", type, predictionTypes);
}

/** The velocity that a network's output stands for. Arguments as in `predictedSample`. */
export function predictedVelocity<T>(
  ops: Ops<T>,
  type: PredictionType,
  noisy: T,
  output: T,
  level: NoiseLevel<Operand<T>>,
): T {
  const rank = checkSamples(ops, "predictedVelocity", { noisy, output }, level);
  const { alpha, sigma } = broadcastLevel(ops, level, rank);
  switch (type) {
    case "epsilon": // v = (noise - sigma x_t) / alpha
      return ops.div(ops.sub(output, ops.mul(sigma, noisy)), alpha);
    case "v_prediction":
      return output;
    case "sample": // v = (alpha x_t - x_0) / sigma
      return ops.div(ops.sub(ops.mul(alpha, noisy), output), sigma);
  }
  throw unknownName("predictedVelocity", "type", type, predictionTypes);
}

/**
 * `predictedSample` as two numbers for one noise level, which is how samplers use it.
 * Throws `UnsupportedConfigError` for an epsilon prediction where no signal is left.
 */
export function samplePredictionAt(type: PredictionType, { alpha, sigma }: NoiseLevel<number>): LinearPrediction {
  switch (type) {
    case "epsilon":
      if (alpha === 0) {
        throw new UnsupportedConfigError(
          "An epsilon prediction cannot be turned into a sample at a timestep of pure noise (zero terminal SNR). " +
            'Use a model with "v_prediction" or "sample", or a schedule without zeroTerminalSnr.',
        );
      }
      return { sample: 1 / alpha, output: -sigma / alpha };
    case "v_prediction":
      return { sample: alpha, output: -sigma };
    case "sample":
      return { sample: 0, output: 1 };
  }
}
