import { combineResiduals, conditionalHalfOnly, controlNet } from "@sdxs/controlnet";
import { guided, type LinearUpdate, type memoryOf, type SamplerStep } from "@sdxs/diffusion";
import { HostTensor, prefixed, scope, type HostParams, type Ops, type Program, type TensorMap } from "@sdxs/tensor";
import { unet, type UNetInputs } from "@sdxs/tiny-unet";
import {
  decodeKl,
  decodeTiny,
  encodeKl,
  encodeTiny,
  fromDiffusionLatents,
  samplePosterior,
  toDiffusionLatents,
} from "@sdxs/tiny-vae";
import { isEncoderParameter } from "../checkpoints/model-classes.js";
import type { TextToImageComponents } from "../checkpoints/components.js";
import { joinTextEncodings, textEncoder } from "../clip/text-encoder.js";

/** Tokens of a prompt, begin, end and padding included: the tokenizers' length, or the positions that the text encoders have. */
export function promptTokens(components: TextToImageComponents): number {
  const { tokenizer, tokenizer_2, text_encoder, text_encoder_2 } = components;
  return Math.min(
    ...[tokenizer, tokenizer_2].flatMap((given) => given?.maximumLength ?? []),
    ...[text_encoder, text_encoder_2].flatMap((given) => given?.config.max_position_embeddings ?? []),
  );
}

/** Weights of the text encoder, or of Stable Diffusion XL's two. */
export function textWeights({ text_encoder: first, text_encoder_2: second }: TextToImageComponents): HostParams {
  return { ...prefixed(first.params, "text_encoder."), ...(second && prefixed(second.params, "text_encoder_2.")) };
}

/** Ids [prompts, tokens] of each text encoder's tokenizer; for XL also [prompts] of 1, or 0 for zeros in place of embeddings. */
export type PromptInput = "ids" | "ids_2" | "kept";

/** Token ids to embeddings [prompts, tokens, features], for XL with the pooled `textEmbeds` [prompts, features]. */
export function promptProgram({
  text_encoder: { config },
  text_encoder_2: second,
}: TextToImageComponents): Program<PromptInput, "context" | "textEmbeds"> {
  return <T>(ops: Ops<T>, params: TensorMap<T>, { ids, ids_2: ids2, kept }: Readonly<Record<PromptInput, T>>) => {
    const p = scope(ops, params);
    const encoding = textEncoder(ops, p.at("text_encoder"), config, ids);
    if (second === undefined) return { context: encoding.lastHiddenState } as Record<"context" | "textEmbeds", T>;
    const other = textEncoder(ops, p.at("text_encoder_2"), second.config, ids2, { projection: true });
    const { encoderHiddenStates, textEmbeds } = joinTextEncodings(ops, encoding, other);
    return {
      context: ops.mul(encoderHiddenStates, ops.reshape(kept, [-1, 1, 1])),
      textEmbeds: ops.mul(textEmbeds, ops.reshape(kept, [-1, 1])),
    };
  };
}

/** One half of the autoencoder's weights. */
export function autoencoderWeights(
  { vae }: Pick<TextToImageComponents, "vae">,
  half: "encoder" | "decoder",
): HostParams {
  return Object.fromEntries(
    Object.entries(vae.params).filter(([name]) => isEncoderParameter(name) === (half === "encoder")),
  );
}

/** What image-to-image begins with: `level` is alpha and sigma, `posterior` noise for AutoencoderKL's random latents. */
export type EncoderInput = "images" | "posterior" | "noise" | "level";

/** Images in [-1, 1] to noised latents alpha z + sigma noise. One image may serve for the noise of several. */
export function encoderProgram({ vae }: Pick<TextToImageComponents, "vae">): Program<EncoderInput, "sample"> {
  return (ops, params, { images, posterior, noise, level }) => {
    const p = scope(ops, params);
    const latents =
      vae.className === "AutoencoderKL"
        ? samplePosterior(ops, encodeKl(ops, p, vae.config, images), posterior)
        : encodeTiny(ops, p, vae.config, images);
    const [alpha, sigma] = [0, 1].map((index) => ops.slice(level, 0, index, 1));
    const clean = ops.mul(toDiffusionLatents(ops, vae.config, latents), alpha!);
    return { sample: ops.add(clean, ops.mul(noise, sigma!)) };
  };
}

/** The sampler's latents to images, a little beyond [-1, 1] in places. */
export function decoderProgram({ vae }: Pick<TextToImageComponents, "vae">): Program<"latents", "images"> {
  return (ops, params, { latents }) => {
    const p = scope(ops, params);
    const images =
      vae.className === "AutoencoderKL"
        ? decodeKl(ops, p, vae.config, fromDiffusionLatents(ops, vae.config, latents))
        : decodeTiny(ops, p, vae.config, fromDiffusionLatents(ops, vae.config, latents));
    return { images: ops.maximum(-1, ops.minimum(1, images)) };
  };
}

/**
 * What one step of a sampler takes on the device: `previous.N` are as many earlier predictions as it looks back to, the newest
 * first, and `base` an earlier sample, where it has one (see `SamplerStep`); `textEmbeds` and `timeIds` for Stable Diffusion XL,
 * `guidanceEmbedding` for latent consistency models, `condition.N` and `strength.N` for each ControlNet that is used; in guess mode
 * `guess.N` in place of `strength.N`.
 */
export type StepInput =
  | "sample"
  | "base"
  | `previous.${number}`
  | "noise"
  | "context"
  | "textEmbeds"
  | "timeIds"
  | "timestep"
  | "factors"
  | "guidanceScale"
  | "guidanceEmbedding"
  | `condition.${number}`
  | `strength.${number}`
  | `guess.${number}`;

/** What it gives: the next sample, the newest prediction, and `base` where there is one. */
export type StepOutput = "sample" | "prediction" | "base";

/** U-Net and ControlNets under one roof. */
export function denoiserWeights({ unet: { params }, controlnet = [] }: TextToImageComponents): HostParams {
  return Object.assign(
    prefixed(params, "unet."),
    ...controlnet.map((model, index) => prefixed(model.params, `controlnet.${index}.`)),
  ) as HostParams;
}

/**
 * One step of any sampler of `@sdxs/diffusion`, see `SamplerStep`: the network and the sums around it, whose factors are
 * inputs, so that one program does for all steps.
 *
 * Where `context` has twice as many entries as `sample`, the first half leads away: classifier-free guidance.
 */
export function stepProgram({
  unet: { config },
  controlnet = [],
}: TextToImageComponents): Program<StepInput, StepOutput> {
  return <T>(ops: Ops<T>, params: TensorMap<T>, inputs: Readonly<Record<StepInput, T>>) => {
    const p = scope(ops, params);
    const { sample, base, noise, context, textEmbeds, timeIds, timestep, factors } = inputs;
    const factor = (index: number): T => ops.slice(factors, 0, index, 1);
    const x = ops.mul(sample, factor(0));
    const [images = 1] = ops.shape(sample);
    const isGuided = ops.shape(context)[0] !== images;
    /** The first half leads away, the second is the prompts'. */
    const half = (both: T, index: 0 | 1): T => ops.slice(both, 0, index * images, images);

    /** @param of what the network gets of a batch that holds every image twice */
    const inputsOf = (of: (both: T) => T, batch: T): UNetInputs<T> => ({
      sample: batch,
      timestep,
      encoderHiddenStates: of(context),
      ...(config.addition_embed_type !== null && {
        addedConditions: { textEmbeds: of(textEmbeds), timeIds: of(timeIds) },
      }),
    });
    const given = inputsOf((both) => both, isGuided ? ops.concat([x, x], 0) : x);
    const residuals = controlnet.flatMap((model, index) => {
      const condition = inputs[`condition.${index}`];
      if (condition === undefined) return [];
      const network = p.at(`controlnet.${index}`);
      const guess = inputs[`guess.${index}`];
      if (guess === undefined) {
        const repeated = repeatBatch(ops, condition, given.sample);
        const options = { conditioningScale: inputs[`strength.${index}`] as T };
        return [controlNet(ops, network, model.config, { ...given, condition: repeated }, options)];
      }
      const options = { conditioningScale: guess, guessMode: true };
      if (!isGuided) return [controlNet(ops, network, model.config, { ...given, condition }, options)];
      const conditional = inputsOf((both) => half(both, 1), x);
      return [conditionalHalfOnly(ops, controlNet(ops, network, model.config, { ...conditional, condition }, options))];
    });
    const networkOutput = unet(ops, p.at("unet"), config, {
      ...given,
      ...(inputs.guidanceEmbedding !== undefined && { guidanceEmbedding: inputs.guidanceEmbedding }),
      ...(residuals.length > 0 && { controlResiduals: combineResiduals(ops, residuals) }),
    }).sample;
    const output = isGuided
      ? guided(ops, half(networkOutput, 0), half(networkOutput, 1), inputs.guidanceScale)
      : networkOutput;
    const weighted = (tensors: readonly T[], first: number): T =>
      tensors.map((tensor, index) => ops.mul(tensor, factor(first + index))).reduce((a, b) => ops.add(a, b));
    const prediction = weighted([sample, output], 1);
    const predictions = [prediction];
    for (
      let earlier = inputs["previous.0"];
      earlier !== undefined;
      earlier = inputs[`previous.${predictions.length - 1}`]
    ) {
      predictions.push(earlier);
    }
    const next = weighted([sample, noise, ...predictions], 3);
    if (base === undefined) return { prediction, sample: next } as Record<StepOutput, T>;
    const rest = 5 + predictions.length;
    return {
      prediction,
      sample: ops.add(next, ops.mul(base, factor(rest))),
      base: weighted([base, sample, ...predictions], rest + 1),
    };
  };
}

/** A step's numbers in the order in which `stepProgram` takes them, for a plan that remembers so much (see `memoryOf`). */
export function factorsOf(
  { inputScale, prediction, update, base = { sample: 0, base: 1, predictions: [] } }: SamplerStep,
  memory: ReturnType<typeof memoryOf>,
): HostTensor {
  const predictions = (from: LinearUpdate): number[] =>
    Array.from({ length: memory.predictions + 1 }, (_, age) => from.predictions[age] ?? 0);
  const own = [inputScale, prediction.sample, prediction.output, update.sample, update.noise, ...predictions(update)];
  const ofBase = [update.base ?? 0, base.base ?? 0, base.sample, ...predictions(base)];
  const factors = memory.base ? [...own, ...ofBase] : own;
  return HostTensor.from([factors.length], factors);
}

/** A condition of each image for a batch that holds every image twice; one for all stays as it is. */
function repeatBatch<T>(ops: Ops<T>, condition: T, x: T): T {
  const [count = 1] = ops.shape(condition);
  const [batch = 1] = ops.shape(x);
  return count === 1 || count === batch ? condition : ops.concat([condition, condition], 0);
}
