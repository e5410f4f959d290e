import { ParameterError } from "@sdxs/tensor";

/** How many elements of TAESD's sequence come before diffusers' layer 0: the decoder begins with the bound 3 tanh(z / 3). */
const elementsBefore = { encoder: 0, decoder: 1 } as const;

type Half = keyof typeof elementsBefore;

const halves = Object.keys(elementsBefore) as Half[];

/** Weights under TAESD's own names, as in taesd_encoder.safetensors and taesd_decoder.safetensors: "1.conv.0.weight". */
export type TaesdFiles<V> = Readonly<Partial<Record<Half, Readonly<Record<string, V>>>>>;

/**
 * Weights of one or both of TAESD's files under diffusers' names: the decoder's "1.weight" is "decoder.layers.0.weight".
 * Throws `ParameterError`, naming the parameter, for a name that is none of TAESD's.
 *
 * @example
 * const decoder = await readSafetensorsFile("taesd_decoder.safetensors");
 * const weights = fromTaesdNames({ decoder: decoder.tensors });
 */
export function fromTaesdNames<V>(files: TaesdFiles<V>): Record<string, V> {
  const weights: Record<string, V> = {};
  for (const half of halves) {
    for (const [name, value] of Object.entries(files[half] ?? {})) {
      const [, element, rest] = /^(\d+)\.(.+)$/.exec(name) ?? [];
      const layer = Number(element) - elementsBefore[half];
      if (!(layer >= 0)) throw unexpected("fromTaesdNames", name, `one of TAESD's ${half}, as "1.conv.0.weight"`);
      weights[`${half}.layers.${layer}.${rest}`] = value;
    }
  }
  return weights;
}

/**
 * Weights under diffusers' names as TAESD's two files: the inverse of `fromTaesdNames`.
 * Throws `ParameterError`, naming the parameter, for a name that is none of diffusers' `AutoencoderTiny`.
 */
export function toTaesdNames<V>(weights: Readonly<Record<string, V>>): Record<Half, Record<string, V>> {
  const files: Record<Half, Record<string, V>> = { encoder: {}, decoder: {} };
  for (const [name, value] of Object.entries(weights)) {
    const [, half, layer, rest] = /^(encoder|decoder)\.layers\.(\d+)\.(.+)$/.exec(name) ?? [];
    if (half !== "encoder" && half !== "decoder") {
      throw unexpected("toTaesdNames", name, `one of an AutoencoderTiny, as "decoder.layers.0.weight"`);
    }
    files[half][`${Number(layer) + elementsBefore[half]}.${rest}`] = value;
  }
  return files;
}

function unexpected(caller: string, name: string, expected: string): ParameterError {
  return new ParameterError(
    "UNEXPECTED_PARAMETER",
    `${caller}: "${name}" must be ${expected}. Take other parameters out of the weights, and prefixes off, by select().`,
  );
}
