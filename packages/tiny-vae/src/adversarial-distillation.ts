import {
  declareParameters,
  scope,
  select,
  type Ops,
  type ParameterSpec,
  type Program,
  type Scope,
  type Shape,
} from "@sdxs/tensor";
import { generatorLoss, type AdversarialLoss } from "@sdxs/losses";
import {
  discriminatorObjective,
  patchDiscriminator,
  projectedDiscriminator,
  type Discriminator,
} from "@sdxs/losses/discriminators";
import { decodeTiny, type AutoencoderTinyConfig } from "./autoencoder-tiny.js";
import { tinyDecoderDistillation, type TinyDecoderDistillationOptions } from "./distillation.js";

/** D of Equation 5. */
export interface DiscriminatorOptions {
  /**
   * A frozen network that gives maps of images [batch, channels, height, width] in [-1, 1]; its parameters lie under
   * "features.". Default: none, the only map is the image itself.
   */
  readonly features?: <T>(ops: Ops<T>, p: Scope<T>, images: T) => readonly T[];
  /**
   * The discriminator of these maps; its parameters are under "discriminator.".
   * Default: `projectedDiscriminator` of `features`, `patchDiscriminator` of images.
   */
  readonly discriminator?: Discriminator;
}

export interface AdversarialDecoderDistillationOptions extends TinyDecoderDistillationOptions, DiscriminatorOptions {
  /** Default "hinge", as in ADD. */
  readonly gan?: AdversarialLoss;
  /** lambda_GAN of Equation 5. Default 0.1 (chosen: the paper publishes none; logits are about 10 times as large as the L1). */
  readonly lambdaGan?: number;
  /** Weight of R1 on the real images' maps, as in ADD, not by pixels where there are `features`. Default 1e-5, ADD's; 0: none. */
  readonly r1Weight?: number;
}

/** The two players' updates. */
export interface AdversarialDecoderDistillation {
  readonly discriminator: Program<"latents" | "image", "loss" | "adversarial" | "realLogit" | "fakeLogit">;
  readonly decoder: Program<"latents" | "image", "loss" | "distance" | "adversarial" | "perSample" | "decoded">;
}

/**
 * Distills a tiny decoder G from a large one's images against a discriminator D that learns to distinguish them: Equation 5
 * of the SDXS paper (https://arxiv.org/abs/2403.16627), as two programs that are trained in turn. The GAN alone cares for the
 * texture; the other terms are those of `tinyDecoderDistillation`, whose inputs and errors these programs share.
 *
 * Parameters: D's under "discriminator.", as `discriminatorParameters` names them; G's, as `tinyDecoderParameters` names
 * them, under "decoder."; those of `features` under "features.". So `alternatingTask` of @sdxs/training names the first two
 * by its learners "discriminator" and "decoder", and is given the last as what is `frozen` in both.
 *
 * Outputs of the discriminator's program, shape []: `loss`, the GAN's and R1's; `adversarial`, the GAN's alone; `realLogit`
 * and `fakeLogit`, means that drift apart where D wins. Of the decoder's: `loss`, the batch's mean, with its parts
 * `distance`, the weighted terms without GAN, and `adversarial`, the GAN's before lambda_GAN; `perSample` [batch]; `decoded`,
 * shaped as `image`.
 *
 * @example
 * const { discriminator, decoder } = adversarialDecoderDistillation(config, { lambdaGan: 0.1 });
 * const task = await alternatingTask({
 *   name: "decoder", backend, steps: 10_000,
 *   learners: {
 *     discriminator: { program: discriminator, params: initialize(discriminatorParameters([1, 3, 64, 64]), 1), ...rest },
 *     decoder: { program: decoder, params: initialize(tinyDecoderParameters(config), 2), ...rest },
 *   },
 * });
 */
export function adversarialDecoderDistillation(
  config: AutoencoderTinyConfig,
  options: AdversarialDecoderDistillationOptions = {},
): AdversarialDecoderDistillation {
  const { gan = "hinge", lambdaGan = 0.1, r1Weight = 1e-5 } = options;
  const { features, discriminator } = withDefaults(options);
  const distillation = tinyDecoderDistillation(config, options);
  return {
    discriminator(ops, params, { latents, image }) {
      const p = scope(ops, params);
      const maps = (x: typeof image) => features(ops, p.at("features"), x);
      const judge = (given: readonly (typeof image)[]) => discriminator(ops, p.at("discriminator"), given);

      const decoded = ops.stopGradient(decodeTiny(ops, p.at("decoder"), config, latents));
      return discriminatorObjective(ops, judge, { real: maps(image), fake: maps(decoded) }, { gan, r1Weight });
    },

    decoder(ops, params, inputs) {
      const p = scope(ops, params);
      const { decoded, perSample: distance } = distillation(ops, select(params, "decoder."), inputs);
      const logits = discriminator(ops, p.at("discriminator"), features(ops, p.at("features"), decoded));
      const adversarial = generatorLoss(ops, gan, logits);
      const perSample = ops.add(distance, ops.mul(adversarial, lambdaGan));
      return {
        loss: ops.mean(perSample),
        distance: ops.mean(distance),
        adversarial: ops.mean(adversarial),
        perSample,
        decoded,
      };
    },
  };
}

/**
 * Names, shapes and initialisations of the trainable parameters of a discriminator of images of this shape, [1, channels, height, width];
 * nothing is computed.
 */
export function discriminatorParameters(
  image: Shape,
  options: DiscriminatorOptions = {},
): Record<string, ParameterSpec> {
  const { features, discriminator } = withDefaults(options);
  const specs = declareParameters(
    (ops, p, { images }) => discriminator(ops, p.at("discriminator"), features(ops, p.at("features"), images)),
    { images: { shape: image } },
  );
  return select(specs, "discriminator.");
}

function withDefaults({ features, discriminator }: DiscriminatorOptions): Required<DiscriminatorOptions> {
  const ofImages: Discriminator = (ops, p, [images]) => patchDiscriminator(ops, p, images!);
  return {
    features: features ?? ((_ops, _p, images) => [images]),
    discriminator: discriminator ?? (features === undefined ? ofImages : projectedDiscriminator),
  };
}
