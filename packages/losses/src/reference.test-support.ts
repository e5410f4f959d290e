import type { HostTensor } from "@sdxs/tensor";
import { referenceCase } from "@sdxs/tensor/testing";
import { expect } from "vitest";

export { meanOf, valuesAndGradients, type PerSampleLoss } from "./losses-case.test-support.js";

/** All tensors of a fixture, by name. */
export const fixtureTensors = (name: string): Promise<Record<string, HostTensor>> =>
  referenceCase(new URL(`../fixtures/${name}/`, import.meta.url)).tensors("io.safetensors");

/** The tensors of a fixture; asking for one that is not there fails. */
export async function fixture(name: string): Promise<(tensor: string) => HostTensor> {
  const tensors = await fixtureTensors(name);
  return (tensor) => {
    const found = tensors[tensor];
    if (found === undefined) throw new Error(`The fixture ${name} has no tensor ${tensor}.`);
    return found;
  };
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
