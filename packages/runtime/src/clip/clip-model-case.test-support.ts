import { HostTensor, scope, type Ops, type TensorMap } from "@sdxs/tensor";
import { compareOutput, compareParameters, tensorOf, uncompared, type CaseCheck } from "@sdxs/tensor/reference-case";
import {
  clipModel,
  clipModelParameters,
  clipScore,
  parseClipConfig,
  visionEncoder,
  type ClipConfig,
} from "./clip-model.js";

/** transformers' names of the results to ours. */
const compute =
  (config: ClipConfig) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, { ids, pixels }: Readonly<Record<"ids" | "pixels", T>>): TensorMap<T> => {
    const p = scope(ops, params);
    const { textEmbeds, imageEmbeds, logitsPerImage } = clipModel(ops, p, config, { ids, pixels });
    const { lastHiddenState, pooled } = visionEncoder(ops, p, config.vision_config, pixels);
    return {
      text_embeds: textEmbeds,
      image_embeds: imageEmbeds,
      logits_per_image: logitsPerImage,
      logits_per_text: ops.transpose(logitsPerImage, [1, 0]),
      clip_score: clipScore(ops, textEmbeds, imageEmbeds),
      vision_last_hidden_state: lastHiddenState,
      vision_pooled: pooled,
    };
  };

/** A whole CLIP: config.json, weights.safetensors, io.safetensors with in.input_ids, in.pixel_values and out.*. */
export const checkClipModelCase: CaseCheck = async (reference, run) => {
  const config = parseClipConfig(await reference.json("config.json"));
  const io = await reference.tensors("io.safetensors");
  const stored = await reference.tensors("weights.safetensors");
  // A scalar in transformers' checkpoints, of shape [1] in reference data.
  const weights = { ...stored, logit_scale: new HostTensor([], tensorOf(stored, "logit_scale").data) };
  const inputs = { ids: tensorOf(io, "in.input_ids"), pixels: tensorOf(io, "in.pixel_values") };
  const results = await run(compute(config), weights, inputs);
  const comparisons = [
    compareParameters("weights", clipModelParameters(config), weights),
    ...Object.entries(io)
      .filter(([name]) => name.startsWith("out."))
      .map(([name, expected]) => compareOutput(name, results[name.slice("out.".length)], expected)),
  ];
  return { comparisons, unchecked: uncompared(io, comparisons, /^in\./) };
};
