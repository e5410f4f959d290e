import { scope, select, type Ops, type Program, type TensorMap } from "@sdxs/tensor";
import { generatorLoss, type AdversarialLoss } from "@sdxs/losses";
import { discriminatorObjective } from "@sdxs/losses/discriminators";
import { applyLora, type Lora } from "@sdxs/lora";
import { checkPair, compareMaps, type FeatureComparison } from "../shared/feature-comparison.js";
import { defaultDiscriminator, type FeatureDiscriminator } from "../shared/feature-discriminator.js";
import type { Generator } from "../shared/plug-ins.js";
import { spread } from "../shared/sample-statistics.js";

export interface TextureFinetuneOptions extends FeatureComparison, FeatureDiscriminator {
  /** The one-step DM x_theta, whose parameters are under "student." and frozen. */
  readonly student: Generator;
  /** Of the LoRA, as `loraParameters` of @sdxs/lora gives them. Default: each layer's rank. */
  readonly alphas?: Lora<unknown>["alphas"];
  /** Default "hinge", ADD's. */
  readonly gan?: AdversarialLoss;
  /** Weight of the GAN loss. Default 1. */
  readonly lambdaGan?: number;
  /** Weight of Equation 10, which keeps the layout. Default 2.5, that of ADD's distillation beside its GAN; 0: none. */
  readonly lambdaFM?: number;
  /** Weight of R1 by the real samples' maps. Default 1e-5, ADD's; 0: none. */
  readonly r1Weight?: number;
}

/** Inputs of both programs. */
export type TextureInput = "noise" | "target" | "context" | "featureTimestep";

/** The programs of discriminator and LoRA. */
export interface TextureFinetune {
  readonly discriminator: Program<TextureInput, "loss" | "adversarial" | "realLogit" | "fakeLogit">;
  readonly lora: Program<TextureInput, "loss" | "adversarial" | "featureMatching" | "spread" | "sample">;
}

/**
 * The texture finetune of the SDXS paper (https://arxiv.org/abs/2403.16627): score distillation leaves samples with less
 * texture, so a short training with a GAN loss follows, which changes the student by an extremely low-rank LoRA alone. The
 * GAN is a projected one (https://arxiv.org/abs/2301.09515) with the settings of ADD (https://arxiv.org/abs/2311.17042):
 * heads that learn to judge the features of a frozen network. Two programs that are trained in turn;
 * `textureFinetuneTask` does so.
 *
 * Parameters: the LoRA's under "lora.", as `loraParameters` of @sdxs/lora names them; the discriminator's under
 * "discriminator.", see `featureDiscriminatorParameters`; frozen are the student's under "student." and the features'
 * under "teacher.". The LoRA is added to the student's parameters before its function sees them, so any student is suitable.
 *
 * Features: the teacher's U-Net encoder at a low timestep, which also sees the prompt; or those of images, by a frozen
 * decoder and a CNN or ViT:
 *
 *     features: (ops, p, { sample }) => vgg16Features(ops, p.at("vgg"), decodeTiny(ops, p.at("decoder"), config, sample))
 *
 * Inputs, all float32: `noise` [batch, channels, height, width], `context` [batch, tokens, features], `featureTimestep`
 * [batch], and `target`, shaped as `noise`: the teacher's sample of it, which is real to the discriminator. Where `lambdaFM`
 * is 0, any real latents of the contexts.
 *
 * Outputs of the discriminator's program: those of `discriminatorObjective`. Of the LoRA's: `loss`, lambda_GAN times
 * `adversarial` and lambda_FM times `featureMatching`, L_FM, all means over the batch; `spread`, the samples' standard
 * deviation over the batch relative to the targets'; `sample`, shaped as `noise`.
 *
 * Throws `ShapeError` where `noise` and `target` differ, `ParameterError` where the LoRA does not fit the student.
 *
 * @example
 * const lora = loraParameters(unetParameters(tiny), { rank: 2 });
 * const { discriminator, lora: adapted } = textureFinetune({ student, features, alphas: lora.alphas });
 */
export function textureFinetune(options: TextureFinetuneOptions): TextureFinetune {
  const { features, discriminator = defaultDiscriminator } = options;
  const { gan = "hinge", lambdaGan = 1, lambdaFM = 2.5, r1Weight = 1e-5 } = options;

  /** The samples of x_theta, the discriminator's inputs and its logits. */
  const players = <T>(ops: Ops<T>, params: TensorMap<T>, inputs: Readonly<Record<TextureInput, T>>) => {
    const { context, featureTimestep } = inputs;
    checkPair(ops, "textureFinetune", inputs.noise, inputs.target);
    const p = scope(ops, params);
    return {
      sample: adaptedSample(ops, params, options, inputs),
      encode: (x: T) => features(ops, p.at("teacher"), { sample: x, timestep: featureTimestep, context }),
      judge: (maps: readonly T[]) => discriminator(ops, p.at("discriminator"), maps),
    };
  };

  return {
    discriminator(ops, params, inputs) {
      const { sample, encode, judge } = players(ops, params, inputs);
      const maps = { real: encode(inputs.target), fake: encode(ops.stopGradient(sample)) };
      return { ...discriminatorObjective(ops, judge, maps, { gan, r1Weight }) };
    },

    lora(ops, params, inputs) {
      const { target } = inputs;
      const { sample, encode, judge } = players(ops, params, inputs);
      const maps = encode(sample);
      const adversarial = ops.mean(generatorLoss(ops, gan, judge(maps)));
      const featureMatching =
        lambdaFM === 0 ? ops.scalar(0) : ops.mean(compareMaps(ops, options, maps, encode(target)));
      return {
        loss: ops.add(ops.mul(adversarial, lambdaGan), ops.mul(featureMatching, lambdaFM)),
        adversarial,
        featureMatching,
        spread: spread(ops, sample, target),
        sample,
      };
    },
  };
}

/** x_theta(epsilon) with the LoRA. */
export function adaptedSample<T>(
  ops: Ops<T>,
  params: TensorMap<T>,
  { student, alphas = {} }: Pick<TextureFinetuneOptions, "student" | "alphas">,
  { noise, context }: { readonly noise: T; readonly context: T },
): T {
  const adapted = applyLora(ops, select(params, "student."), [{ params: select(params, "lora."), alphas }]);
  return student(ops, scope(ops, adapted), { noise, context });
}
