/** Support for the tests of all packages; not part of the published package. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import * as tf from "@tensorflow/tfjs";
import "@tensorflow/tfjs-backend-wasm";
import * as ort from "onnxruntime-node";
import { expect } from "vitest";
import type { HostTensor } from "./host-tensor.js";
import { readSafetensorsFile } from "./node.js";
import { onnxBackend } from "./onnx.js";
import type { TensorMap } from "./ops.js";
import type { Backend, Program, TensorSpec } from "./program.js";
import { tfjsBackend } from "./tfjs.js";

/** Runs a program once and gives its results in host memory. */
export type RunOnce = <In extends string, Out extends string>(
  program: Program<In, Out>,
  params: TensorMap<HostTensor>,
  inputs: Readonly<Record<In, HostTensor>>,
) => Promise<Record<Out, HostTensor>>;

const runOn =
  <D>(backend: Backend<D>): RunOnce =>
  async <In extends string, Out extends string>(
    program: Program<In, Out>,
    params: TensorMap<HostTensor>,
    inputs: Readonly<Record<In, HostTensor>>,
  ): Promise<Record<Out, HostTensor>> => {
    const specs = <Name extends string>(tensors: Readonly<Record<Name, HostTensor>>): Record<Name, TensorSpec> =>
      Object.fromEntries(
        Object.entries<HostTensor>(tensors).map(([name, { shape, dtype }]) => [name, { shape, dtype }]),
      ) as Record<Name, TensorSpec>;
    const compiled = await backend.compile(program, { params: specs(params), inputs: specs(inputs) });
    const results = await compiled.run(params, inputs);
    const host: [string, HostTensor][] = [];
    for (const [name, tensor] of Object.entries<D>(results)) host.push([name, await backend.download(tensor)]);
    // One tensor may stand under several names.
    for (const tensor of new Set(Object.values<D>(results))) backend.dispose(tensor);
    await compiled.dispose();
    return Object.fromEntries(host) as Record<Out, HostTensor>;
  };

/** Every adapter that runs in Node without a GPU, for `describe.each`. */
export const testBackends: readonly { readonly name: string; readonly run: () => Promise<RunOnce> }[] = [
  { name: "onnx", run: async () => runOn(onnxBackend({ ort })) },
  { name: "tfjs", run: async () => runOn(await tfjsBackend({ tf, backend: "wasm" })) },
];

/** A case of reference data: a folder of safetensors and JSON files. */
export interface ReferenceCase {
  json(file: string): Promise<unknown>;
  tensors(file: string): Promise<Record<string, HostTensor>>;
}

/** Reads from a folder: `referenceCase(new URL("../fixtures/taesd_small/", import.meta.url))`. */
export function referenceCase(folder: URL): ReferenceCase {
  return {
    json: async (file) => JSON.parse(await readFile(new URL(file, folder), "utf8")) as unknown,
    tensors: async (file) => (await readSafetensorsFile(fileURLToPath(new URL(file, folder)))).tensors,
  };
}

/** A published model at full size: its config.json and every parameter's name and shape. */
export interface ModelListing {
  readonly config: unknown;
  readonly total: number;
  readonly parameters: readonly (readonly [name: string, shape: readonly number[]])[];
}

export async function readModelListing(file: URL): Promise<ModelListing> {
  return JSON.parse(gunzipSync(await readFile(file)).toString("utf8")) as ModelListing;
}

/** Names and shapes of declared parameters in the form of a listing, for `toEqual`. */
export function listShapes(specs: Readonly<Record<string, TensorSpec>>): Record<string, readonly number[]> {
  return Object.fromEntries(Object.entries(specs).map(([name, { shape }]) => [name, shape]));
}

/** Largest absolute element. */
export function maxAbs(tensor: HostTensor): number {
  let largest = 0;
  for (const value of tensor.data) largest = Math.max(largest, Math.abs(value));
  return largest;
}

/** Largest absolute difference; NaN where any is not a number. */
export function maxAbsError(actual: HostTensor, reference: HostTensor): number {
  expect(actual.shape).toEqual(reference.shape);
  let largest = 0;
  for (const [index, value] of reference.data.entries()) {
    largest = Math.max(largest, Math.abs((actual.data[index] ?? NaN) - value));
  }
  return largest;
}

/** Outputs agree within 1e-4 of their scale, which float32 meets. */
export function expectOutput(name: string, actual: HostTensor | undefined, reference: HostTensor | undefined): void {
  if (!actual || !reference) throw new Error(`${name}: ${actual ? "no reference" : "not computed"}`);
  expect(maxAbsError(actual, reference), name).toBeLessThan(1e-4 * Math.max(1, maxAbs(reference)));
}

/** Gradients agree within 1e-4 of their tensor's scale plus 1e-5 of the model's largest gradient. */
export function expectGradient(
  name: string,
  actual: HostTensor | undefined,
  reference: HostTensor,
  largestOfModel: number,
): void {
  if (!actual) throw new Error(`${name}: not computed`);
  expect(maxAbsError(actual, reference), name).toBeLessThan(1e-4 * maxAbs(reference) + 1e-5 * largestOfModel);
}
