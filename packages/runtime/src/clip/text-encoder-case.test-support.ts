import { scope, type Ops, type TensorMap } from "@sdxs/tensor";
import { compareOutput, compareParameters, tensorOf, uncompared, type CaseCheck } from "@sdxs/tensor/reference-case";
import {
  parseTextEncoderConfig,
  textEncoder,
  textEncoderParameters,
  type TextEncoderConfig,
  type TextEncoderOptions,
} from "./text-encoder.js";

/** transformers' names of the results to ours. */
export const encode =
  (config: TextEncoderConfig, options: TextEncoderOptions = {}) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, { ids }: Readonly<Record<"ids", T>>): TensorMap<T> => {
    const encoding = textEncoder(ops, scope(ops, params), config, ids, options);
    return {
      last_hidden_state: encoding.lastHiddenState,
      ...Object.fromEntries(encoding.hiddenStates.map((state, index) => [`hidden_states.${index}`, state])),
      penultimate: encoding.hiddenStates.at(-2) as T,
      penultimate_final_ln: encoding.penultimateNormalized,
      pooled: encoding.pooled,
      ...(encoding.textEmbeds !== undefined && { text_embeds: encoding.textEmbeds }),
    };
  };

/** A CLIP text encoder: config.json, weights.safetensors, io.safetensors with in.input_ids and out.*. */
export const checkTextEncoderCase: CaseCheck = async (reference, run) => {
  const config = parseTextEncoderConfig(await reference.json("config.json"));
  const io = await reference.tensors("io.safetensors");
  const weights = await reference.tensors("weights.safetensors");
  const options = { projection: "text_projection.weight" in weights };
  const results = await run(encode(config, options), weights, { ids: tensorOf(io, "in.input_ids") });
  const comparisons = [
    compareParameters("weights", textEncoderParameters(config, options), weights),
    ...Object.entries(io)
      .filter(([name]) => name.startsWith("out."))
      .map(([name, expected]) => compareOutput(name, results[name.slice("out.".length)], expected)),
  ];
  return { comparisons, unchecked: uncompared(io, comparisons, /^in\./) };
};
