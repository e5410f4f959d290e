import type { HostTensor, Ops, Program, TensorMap } from "@sdxs/tensor";
import { referenceCase, type RunOnce } from "@sdxs/tensor/testing";
import { expect } from "vitest";

/** The tensors of a fixture; asking for one that is not there fails. */
export async function fixture(name: string): Promise<(tensor: string) => HostTensor> {
  const tensors = await referenceCase(new URL("../fixtures/", import.meta.url)).tensors(`${name}.safetensors`);
  return (tensor) => {
    const found = tensors[tensor];
    if (found === undefined) throw new Error(`The fixture ${name} has no tensor ${tensor}.`);
    return found;
  };
}

/** A loss of named tensors, one value per sample. */
export type PerSampleLoss = <T>(ops: Ops<T>, inputs: TensorMap<T>) => T;

/** A loss's values, and the gradient of their mean with respect to the named inputs, as "grad.NAME". */
export async function valuesAndGradients(
  run: RunOnce,
  loss: PerSampleLoss,
  inputs: TensorMap<HostTensor>,
  differentiate: readonly string[],
): Promise<Record<string, HostTensor>> {
  const program: Program = (ops, _params, given) => {
    const varied = Object.fromEntries(differentiate.map((name) => [name, given[name]!]));
    const { aux, grads } = ops.valueAndGrad((changed) => {
      const values = loss(ops, { ...given, ...changed });
      return { loss: ops.mean(values), aux: { values } };
    }, varied);
    return { values: aux["values"]!, ...Object.fromEntries(Object.entries(grads).map(([k, v]) => [`grad.${k}`, v])) };
  };
  return run(program, {}, inputs);
}

/** Asserts a largest absolute difference below `tolerance` times the larger of `floor` and the largest reference value. */
export function expectClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  floor = 1,
): void {
  expect(actual.length).toBe(expected.length);
  let largest = floor;
  let error = 0;
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]!));
    const difference = Math.abs(actual[i]! - expected[i]!);
    error = Number.isNaN(difference) ? Infinity : Math.max(error, difference);
  }
  expect(error).toBeLessThan(tolerance * largest);
}

export const meanOf = ({ data }: HostTensor): number => Array.from(data).reduce((a, b) => a + b, 0) / data.length;
