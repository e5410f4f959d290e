import { prefixed, scope, select, type Ops, type TensorMap } from "@sdxs/tensor";
import {
  compareGradients,
  compareInsides,
  compareOutput,
  compareParameters,
  expectedGradients,
  tensorOf,
  uncompared,
  type CaseCheck,
  type Comparison,
} from "@sdxs/tensor/reference-case";
import { parseUNetConfig, type UNetConfig } from "./unet-config.js";
import { namedFeatures, unet, unetParameters, type UNetInputs } from "./unet.js";

/** diffusers' names of the inputs to ours. */
export function namedInputs<T>(inputs: TensorMap<T>): UNetInputs<T> {
  const {
    sample,
    timestep,
    encoder_hidden_states: encoderHiddenStates,
    text_embeds: textEmbeds,
    time_ids: timeIds,
    timestep_cond: guidanceEmbedding,
  } = inputs;
  if (sample === undefined || timestep === undefined || encoderHiddenStates === undefined)
    throw new Error("sample, timestep or encoder_hidden_states is missing");
  return {
    sample,
    timestep,
    encoderHiddenStates,
    ...(textEmbeds && timeIds && { addedConditions: { textEmbeds, timeIds } }),
    ...(guidanceEmbedding && { guidanceEmbedding }),
  };
}

/** The prediction "eps", and features under diffusers' names. */
export const predict =
  (config: UNetConfig) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, inputs: TensorMap<T>): TensorMap<T> => {
    const { sample, features } = unet(ops, scope(ops, params), config, namedInputs(inputs));
    return { eps: sample, ...namedFeatures(features) };
  };

/** Gradients of sum(eps * R) by all parameters, "sample" and "encoder_hidden_states". */
const differentiate =
  (config: UNetConfig) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, { R, ...inputs }: TensorMap<T>): TensorMap<T> => {
    const { sample, encoder_hidden_states, ...fixed } = inputs;
    const variables = { ...params, sample: sample as T, encoder_hidden_states: encoder_hidden_states as T };
    return ops.valueAndGrad((given) => {
      const eps = unet(ops, scope(ops, given), config, namedInputs({ ...fixed, ...given })).sample;
      return { loss: ops.sum(ops.mul(eps, R as T)), aux: {} };
    }, variables).grads;
  };

/**
 * A `UNet2DConditionModel`: config.json, weights.safetensors, io.safetensors with in.*, out.eps, feat.* (also of a
 * transformer's inside), odd.in.*, odd.out.eps and grad.*, and grads.safetensors. Gradients are those of sum(eps * R).
 */
export const checkUNetCase: CaseCheck = async (reference, run) => {
  const config = parseUNetConfig(await reference.json("config.json"));
  const io = await reference.tensors("io.safetensors");
  const weights = await reference.tensors("weights.safetensors");
  const comparisons: Comparison[] = [compareParameters("weights", unetParameters(config), weights)];

  const { R: _, ...inputs } = select(io, "in.");
  const results = await run(predict(config), weights, inputs);
  comparisons.push(compareOutput("out.eps", results["eps"], tensorOf(io, "out.eps")));
  const features = Object.entries(prefixed(select(io, "feat."), "feat."));
  const named = features.filter(([name]) => name.slice("feat.".length) in results);
  for (const [name, feature] of named) {
    comparisons.push(compareOutput(name, results[name.slice("feat.".length)], feature));
  }
  const insides = Object.fromEntries(features.filter((feature) => !named.includes(feature)));
  comparisons.push(...(await compareInsides(run, predict(config), weights, inputs, insides)));

  if ("odd.out.eps" in io) {
    const { eps } = await run(predict(config), weights, select(io, "odd.in."));
    comparisons.push(compareOutput("odd.out.eps", eps, tensorOf(io, "odd.out.eps")));
  }

  const expected = await expectedGradients(reference, io);
  if (Object.keys(expected).length > 0) {
    const grads = await run(differentiate(config), weights, select(io, "in."));
    comparisons.push(...(await compareGradients(reference, prefixed(grads, "grad."), expected)));
  }
  return { comparisons, unchecked: uncompared(io, comparisons, /^(odd\.)?in\./) };
};
