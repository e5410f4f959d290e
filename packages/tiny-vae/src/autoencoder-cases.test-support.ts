import { HostTensor, mapTensors, prefixed, random, scope, select, type Ops, type TensorMap } from "@sdxs/tensor";
import {
  agrees,
  compareGradients,
  compareInsides,
  compareOutput,
  compareParameters,
  compareTensors,
  expectedGradients,
  tensorOf,
  uncompared,
  type CaseCheck,
  type Comparison,
} from "@sdxs/tensor/reference-case";
import {
  autoencoderKlParameters,
  decodeKl,
  klMoments,
  parseAutoencoderKlConfig,
  posteriorFromMoments,
  posteriorKl,
  samplePosterior,
  type AutoencoderKlConfig,
} from "./autoencoder-kl.js";
import {
  autoencoderTinyParameters,
  decodeTiny,
  encodeTiny,
  parseAutoencoderTinyConfig,
  scaleLatents,
  unscaleLatents,
  type AutoencoderTinyConfig,
} from "./autoencoder-tiny.js";

/** diffusers' names of the results to ours. */
export const computeTiny =
  (config: AutoencoderTinyConfig) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, { image, latents }: TensorMap<T>) => {
    const p = scope(ops, params);
    const encoded = encodeTiny(ops, p, config, image as T);
    const scaled = scaleLatents(ops, config, encoded);
    return {
      latents: encoded,
      decoded: decodeTiny(ops, p, config, latents as T),
      reconstruction: decodeTiny(ops, p, config, encoded),
      scale_latents: scaled,
      unscale_latents: unscaleLatents(ops, config, scaled),
    };
  };

/** Gradients of sum(encode(image) * R_enc) + sum(decode(latents) * R_dec). */
export const differentiateTiny =
  (config: AutoencoderTinyConfig) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, { image, latents, R_enc, R_dec }: TensorMap<T>): TensorMap<T> =>
    ops.valueAndGrad(
      (given) => {
        const p = scope(ops, given);
        const encoded = ops.sum(ops.mul(encodeTiny(ops, p, config, given["image"] as T), R_enc as T));
        const decoded = ops.sum(ops.mul(decodeTiny(ops, p, config, given["latents"] as T), R_dec as T));
        return { loss: ops.add(encoded, decoded), aux: {} };
      },
      { ...params, image: image as T, latents: latents as T },
    ).grads;

/**
 * An `AutoencoderTiny`: config.json, weights.safetensors, io.safetensors with in.{image, latents, R_enc, R_dec}, out.* and
 * grad.{image, latents}, and grads.safetensors, if there.
 */
export const checkAutoencoderTinyCase: CaseCheck = async (reference, run) => {
  const config = parseAutoencoderTinyConfig(await reference.json("config.json"));
  const io = await reference.tensors("io.safetensors");
  const weights = await reference.tensors("weights.safetensors");
  const inputs = select(io, "in.");
  const comparisons: Comparison[] = [compareParameters("weights", autoencoderTinyParameters(config), weights)];
  const notes: string[] = [];

  const results: TensorMap<HostTensor> = await run(computeTiny(config), weights, inputs);
  for (const [name, expected] of Object.entries(select(io, "out."))) {
    comparisons.push(compareOutput(`out.${name}`, results[name], expected));
  }
  const expected = await expectedGradients(reference, io);
  if (Object.keys(expected).length > 0) {
    const gradientsAt = async (given: TensorMap<HostTensor>): Promise<TensorMap<HostTensor>> =>
      prefixed(await run(differentiateTiny(config), weights, given), "grad.");
    const direct = await compareGradients(reference, await gradientsAt(inputs), expected);
    const disagreeing = direct.filter((comparison) => !agrees(comparison));
    comparisons.push(...direct.filter(agrees));
    if (disagreeing.length > 0) {
      const count = `${disagreeing.length} of ${direct.length} gradients`;
      notes.push(`${count} compared with those at inputs moved by ${ROUNDING.toExponential()}, where ReLUs switch`);
      const nearby = await nearbyGradients(gradientsAt, inputs);
      for (const { name, tolerance } of disagreeing) {
        const candidates = nearby.map((gradients) => gradients[name]!);
        const reference = tensorOf(expected, name);
        const closest = closestWithin(candidates, reference);
        comparisons.push(compareTensors("gradients", name, closest, reference, tolerance));
      }
    }
  }
  return { comparisons, unchecked: uncompared(io, comparisons, /^in\./), notes };
};

/** How far float32's rounding moves the activations of such a network. */
const ROUNDING = 1e-6;

/**
 * Gradients at inputs moved by as much as rounding moves the activations. The gradient of a network
 * of ReLUs jumps where the input of one is 0; of a million there are always some that rounding puts on either side, so
 * that float32 gives one of several gradients, which in single elements differ by more than any tolerance of rounding.
 */
async function nearbyGradients(
  gradientsAt: (inputs: TensorMap<HostTensor>) => Promise<TensorMap<HostTensor>>,
  inputs: TensorMap<HostTensor>,
): Promise<TensorMap<HostTensor>[]> {
  const found = [await gradientsAt(inputs)];
  for (let seed = 0; seed < 12; seed++) {
    const moved = mapTensors(inputs, ({ shape, data }, name) => {
      const noise = random(seed, name).normal(shape).data;
      return HostTensor.from(
        shape,
        Array.from(data, (value, index) => value + ROUNDING * noise[index]!),
      );
    });
    found.push(await gradientsAt({ ...inputs, image: moved["image"]!, latents: moved["latents"]! }));
  }
  return found;
}

/** The values that are closest to a reference's between the smallest and the largest of some tensors, element by element. */
function closestWithin(candidates: readonly HostTensor[], reference: HostTensor): HostTensor {
  const values = Array.from(reference.data, (value, index) => {
    const given = candidates.map(({ data }) => data[index] ?? NaN);
    return Math.min(Math.max(value, Math.min(...given)), Math.max(...given));
  });
  return HostTensor.from(candidates[0]!.shape, values);
}

/** diffusers' names of the results to ours. */
export const computeKl =
  (config: AutoencoderKlConfig) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, { image, latents, noise }: TensorMap<T>) => {
    const p = scope(ops, params);
    const moments = klMoments(ops, p, config, image as T);
    const posterior = posteriorFromMoments(ops, moments);
    return {
      moments,
      mean: posterior.mean,
      mode: posterior.mean,
      logvar: posterior.logVariance,
      sample: samplePosterior(ops, posterior, noise as T),
      kl: posteriorKl(ops, posterior),
      decoded: decodeKl(ops, p, config, latents as T),
    };
  };

/** Gradient of sum(decode(latents) * R_dec). */
const differentiateKl =
  (config: AutoencoderKlConfig) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, { latents, R_dec }: TensorMap<T>): TensorMap<T> => {
    const loss = (given: TensorMap<T>): T =>
      ops.sum(ops.mul(decodeKl(ops, scope(ops, params), config, given["latents"] as T), R_dec as T));
    return ops.valueAndGrad((given) => ({ loss: loss(given), aux: {} }), { latents: latents as T }).grads;
  };

/**
 * An `AutoencoderKL`: config.json, weights.safetensors, io.safetensors with in.{image, latents, noise, R_dec}, out.*, feat.*
 * and grad.latents.
 */
export const checkAutoencoderKlCase: CaseCheck = async (reference, run) => {
  const config = parseAutoencoderKlConfig(await reference.json("config.json"));
  const io = await reference.tensors("io.safetensors");
  const weights = await reference.tensors("weights.safetensors");
  const { R_dec: _, ...inputs } = select(io, "in.");
  const comparisons: Comparison[] = [compareParameters("weights", autoencoderKlParameters(config), weights)];

  const results: TensorMap<HostTensor> = await run(computeKl(config), weights, inputs);
  const insides: Record<string, HostTensor> = {};
  for (const [name, expected] of Object.entries(io)) {
    if (!/^(out|feat)\./.test(name)) continue;
    const result = results[name.slice("out.".length)];
    if (result === undefined) insides[name] = expected;
    else comparisons.push(compareOutput(name, result, expected));
  }
  comparisons.push(...(await compareInsides(run, computeKl(config), weights, inputs, insides)));

  if ("grad.latents" in io) {
    const given = { latents: tensorOf(io, "in.latents"), R_dec: tensorOf(io, "in.R_dec") };
    const grads = await run(differentiateKl(config), weights, given);
    const expected = await expectedGradients(reference, io);
    comparisons.push(...(await compareGradients(reference, prefixed(grads, "grad."), expected)));
  }
  return { comparisons, unchecked: uncompared(io, comparisons, /^in\./) };
};
