import { scope, type Ops, type Program, type TensorMap } from "@sdxs/tensor";
import { addNoise, gatherNoiseLevels } from "@sdxs/diffusion";
import { generatorLoss, type AdversarialLoss } from "@sdxs/losses";
import { discriminatorObjective } from "@sdxs/losses/discriminators";
import { checkPair } from "../shared/feature-comparison.js";
import { defaultDiscriminator, type FeatureDiscriminator } from "../shared/feature-discriminator.js";
import type { Generator } from "../shared/plug-ins.js";
import { differentiateBySample, gradientNorm, weightedLoss } from "../shared/sample-loss.js";
import { scoreGap, spread } from "../shared/sample-statistics.js";
import { onlineLoss, scoreDifference, type ScoreModels } from "../shared/score-difference.js";
import type { OnlineInput } from "../segmented-score-distillation/segmented-score-distillation.js";

export interface DistributionMatchingDistillationOptions extends ScoreModels, FeatureDiscriminator {
  /** The one-step DM x_theta; its parameters are under "student.". */
  readonly student: Generator;
  /**
   * The maps of noisy samples that the classifier judges: the online DM's own, as its bottleneck. Finds the online DM's
   * parameters under "online.", which learn for the classifier too.
   */
  readonly features: FeatureDiscriminator["features"];
  /** Default "non-saturating", DMD2's. */
  readonly gan?: AdversarialLoss;
  /** Weight of the GAN loss in the student's. Default 1e-3, DMD2's for Stable Diffusion 1.5; it has 5e-3 for SDXL. */
  readonly lambdaGan?: number;
  /** Weight of the classifier's loss beside the online DM's denoising loss. Default 1e-2, DMD2's. */
  readonly classifierWeight?: number;
}

/** Inputs of the online DM's program. */
export type MatchingOnlineInput = OnlineInput | "real" | "realNoise";
/** Inputs of the student's program. */
export type MatchingStudentInput = OnlineInput | "ganNoise" | "ganTimestep";

/** The two programs of DMD2. */
export interface DistributionMatchingDistillation {
  readonly online: Program<
    MatchingOnlineInput,
    "loss" | "denoising" | "adversarial" | "realLogit" | "fakeLogit" | "spread"
  >;
  readonly student: Program<MatchingStudentInput, MatchingStudentOutput>;
}

type MatchingStudentOutput =
  | "loss"
  | "adversarial"
  | "scoreGap"
  | "scoreGradientNorm"
  | "adversarialGradientNorm"
  | "sample"
  | "onlineSample"
  | "offlineSample";

/**
 * Improved distribution matching distillation, DMD2 (https://arxiv.org/abs/2405.14867), as two programs that are trained in
 * turn; `distributionMatchingDistillationTask` does so. Beside Algorithm 1 of SDXS it has neither noise-image pairs nor
 * feature matching: the score difference is taken at nearly all timesteps, and a GAN loss corrects the errors of the offline
 * DM. The GAN's classifier is a head on the online DM's features, and sees real and generated samples under noise.
 *
 * Grad(phi): the online DM learns to denoise the student's samples, Equation 1, and to distinguish them from real ones.
 *
 * Grad(theta): the score difference, normalised as in DMD unless `scoreWeight` says otherwise, and lambda_GAN times the
 * gradient of the GAN loss.
 *
 * Inputs, all float32:
 * - `noise` z [batch, channels, height, width], `context` [batch, tokens, features];
 * - `scoreNoise`, shaped as `noise`, standard normal, and `timestep` [batch], whole numbers in [0, T): these make x_t;
 * - of the online DM alone: `real` samples of the contexts, and `realNoise`, both shaped as `noise`. The classifier sees
 *   them at `timestep`, and the student's samples as they are denoised;
 * - of the student alone: `ganNoise`, shaped as `noise`, and `ganTimestep` [batch], with which the classifier sees its samples.
 *
 * The classifier's parameters are under "online.classifier.", see `featureDiscriminatorParameters`.
 *
 * Outputs of the online DM's program: `loss`; its parts `denoising`, Equation 1, and `adversarial`, the classifier's loss
 * before its weight; `realLogit` and `fakeLogit`, means whose difference grows where the classifier outperforms the student; `spread`, the samples'
 * standard deviation over the batch relative to that of the real ones: near 0 where all samples have collapsed to one.
 *
 * Outputs of the student's program: `loss`, whose value alone says little; `adversarial`, the GAN loss; `scoreGap`,
 * `sample`, `onlineSample` and `offlineSample`, as those of `segmentedScoreDistillation`; `scoreGradientNorm` and
 * `adversarialGradientNorm`, L2 norms by the sample before lambda_GAN, means over the batch.
 *
 * Throws `ShapeError` where `real` or the empty prompt's context does not fit.
 *
 * @example
 * const { online, student } = distributionMatchingDistillation({
 *   student: oneStepGenerator(tinyNetwork, oneStepConversion(schedule)),
 *   onlineScore: network, offlineScore: network, schedule,
 *   features: (ops, p, { context, ...inputs }) =>
 *     [unetEncoder(ops, p, teacher, { ...inputs, encoderHiddenStates: context }).midBlock!],
 * });
 */
export function distributionMatchingDistillation(
  options: DistributionMatchingDistillationOptions,
): DistributionMatchingDistillation {
  const { student, features, discriminator: classifier = defaultDiscriminator, schedule } = options;
  const { gan = "non-saturating", lambdaGan = 1e-3, classifierWeight = 1e-2 } = options;

  /** F(x, t), and its features as the classifier sees them. */
  const diffusedMaps = <T>(
    ops: Ops<T>,
    params: TensorMap<T>,
    { sample, noise, timestep, context }: Readonly<Record<"sample" | "noise" | "timestep" | "context", T>>,
  ): readonly T[] => {
    const noisy = addNoise(ops, sample, noise, gatherNoiseLevels(ops, schedule, timestep));
    return features(ops, scope(ops, params, "online"), { sample: noisy, timestep, context });
  };
  const classify = <T>(ops: Ops<T>, params: TensorMap<T>, maps: readonly T[]): T =>
    classifier(ops, scope(ops, params, "online.classifier"), maps);

  return {
    // Grad(phi)
    online(ops, params, { noise, real, realNoise, ...inputs }) {
      checkPair(ops, "distributionMatchingDistillation", noise, real);
      const { context, timestep, scoreNoise } = inputs;
      const made = student(ops, scope(ops, params, "student"), { noise, context });
      const sample = ops.stopGradient(made);
      const denoising = ops.mean(onlineLoss(ops, params, options, sample, inputs));

      // -log D(F(x, t)) - log (1 - D(F(x_theta(z), t)))
      const { loss: classification, ...outputs } = discriminatorObjective(
        ops,
        (maps) => classify(ops, params, maps),
        {
          real: diffusedMaps(ops, params, { sample: real, noise: realNoise, timestep, context }),
          fake: diffusedMaps(ops, params, { sample, noise: scoreNoise, timestep, context }),
        },
        { gan },
      );
      return {
        loss: ops.add(denoising, ops.mul(classification, classifierWeight)),
        denoising,
        ...outputs,
        spread: spread(ops, sample, real),
      };
    },

    // Grad(theta)
    student(ops, params, { noise, ganNoise, ganTimestep, ...inputs }) {
      const { context } = inputs;
      const sample = student(ops, scope(ops, params, "student"), { noise, context });

      // w(t) [s_phi(x_t, t) - s_p(x_t)] d x_t / d x_0
      const score = scoreDifference(ops, params, options, sample, inputs);

      // - d log D(F(x_0, t)) / d x_0
      const adversarial = differentiateBySample(ops, sample, (x) => {
        const diffused = { sample: x, noise: ganNoise, timestep: ganTimestep, context };
        return generatorLoss(ops, gan, classify(ops, params, diffusedMaps(ops, params, diffused)));
      });

      return {
        loss: weightedLoss(ops, sample, [
          [1, score],
          [lambdaGan, adversarial],
        ]),
        adversarial: adversarial.value,
        scoreGap: scoreGap(ops, sample, score),
        scoreGradientNorm: gradientNorm(ops, score),
        adversarialGradientNorm: gradientNorm(ops, adversarial),
        sample,
        onlineSample: score.onlineSample,
        offlineSample: score.offlineSample,
      };
    },
  };
}
