/**
 * Cases of reference data and how they are compared: support for the tests of all packages and for `npm run golden`; not
 * part of the published package.
 */
import { readFile, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import * as tf from "@tensorflow/tfjs";
import "@tensorflow/tfjs-backend-wasm";
import * as ort from "onnxruntime-node";
import { fromBackend } from "./conformance/adapter.js";
import { MalformedFileError, SdxsError } from "./core/errors.js";
import type { HostTensor, Shape } from "./core/host-tensor.js";
import { readSafetensorsFile } from "./node.js";
import { onnxBackend } from "./onnx.js";
import type { Ops, TensorMap } from "./core/ops.js";
import type { Backend, Program, TensorSpec } from "./core/program.js";
import { checkParameters, prefixed, select } from "./core/parameters.js";
import { tfjsBackend } from "./tfjs.js";

// ---------------------------------------------------------------------------------------------------------------------
// Running

/** Runs a program once and gives its results in host memory. */
export type RunOnce = <In extends string, Out extends string>(
  program: Program<In, Out>,
  params: TensorMap<HostTensor>,
  inputs: Readonly<Record<In, HostTensor>>,
) => Promise<Record<Out, HostTensor>>;

const runOn = <D>(backend: Backend<D>): RunOnce => {
  const adapter = fromBackend(backend);
  // Outputs have the names of the program's, whatever those are.
  return ((program: Program, params, inputs) => adapter.evaluate(program, params, inputs)) as RunOnce;
};

/** Every adapter that runs in Node without a GPU, for `describe.each`. */
export const testBackends: readonly { readonly name: "onnx" | "tfjs"; readonly run: () => Promise<RunOnce> }[] = [
  { name: "onnx", run: async () => runOn(onnxBackend({ ort })) },
  { name: "tfjs", run: async () => runOn(await tfjsBackend({ tf, backend: "wasm" })) },
];

// ---------------------------------------------------------------------------------------------------------------------
// Reading

/** A case of reference data: a folder of safetensors and JSON files. */
export interface ReferenceCase {
  json(file: string): Promise<unknown>;
  tensors(file: string): Promise<Record<string, HostTensor>>;
  /** The size of a file in bytes; undefined where the folder has none of that name. */
  bytes(file: string): Promise<number | undefined>;
}

/** Reads from a folder: `referenceCase(new URL("../fixtures/taesd_small/", import.meta.url))`. */
export function referenceCase(folder: URL): ReferenceCase {
  const path = (file: string): string => fileURLToPath(new URL(file, folder));
  return {
    json: (file) => readJson(path(file)),
    tensors: async (file) => (await readSafetensorsFile(path(file))).tensors,
    bytes: async (file) => (await stat(path(file)).catch(() => undefined))?.size,
  };
}

/** A published model at full size: its class, its config.json, and every parameter's name and shape. */
export interface ModelListing {
  readonly class: string;
  readonly config: unknown;
  readonly total: number;
  readonly parameters: readonly (readonly [name: string, shape: Shape])[];
}

export async function readModelListing(file: URL): Promise<ModelListing> {
  return (await readJson(fileURLToPath(file), gunzipSync)) as ModelListing;
}

/** Python's Infinity and NaN are read as null. */
async function readJson(path: string, decode = (bytes: Buffer): Buffer => bytes): Promise<unknown> {
  try {
    const text = decode(await readFile(path)).toString("utf8");
    return JSON.parse(text.replace(/-?\bInfinity\b|\bNaN\b/g, "null"));
  } catch (cause) {
    const missing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    if (missing) throw new SdxsError("MISSING_FILE", `There is no file at ${path}. Check the path.`, { cause });
    throw new MalformedFileError(`${path}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

/** A tensor that a case must have. */
export function tensorOf(tensors: TensorMap<HostTensor>, name: string): HostTensor {
  const found = tensors[name];
  if (found === undefined) throw new MalformedFileError(`The case has no tensor "${name}".`);
  return found;
}

// ---------------------------------------------------------------------------------------------------------------------
// Comparing

/** Something computed beside its reference. */
export interface Comparison {
  /** The group that it is shown with, as "outputs". */
  readonly group: string;
  readonly name: string;
  /** Largest absolute difference; Infinity where they cannot be compared. */
  readonly error: number;
  /** The error must be below, or 0. */
  readonly tolerance: number;
  /** The difference, where it does not agree. */
  readonly problem?: string;
}

export const agrees = ({ error, tolerance }: Comparison): boolean => error < tolerance || error === 0;

/** The result of checking a case. */
export interface CaseResult {
  readonly comparisons: readonly Comparison[];
  /** Tensors of the case that are neither inputs nor compared. */
  readonly unchecked: readonly string[];
  /** Remarks on how it was compared. */
  readonly notes?: readonly string[];
}

/** Checks one kind of case on one backend. */
export type CaseCheck = (reference: ReferenceCase, run: RunOnce) => Promise<CaseResult>;

/** Largest absolute element. */
export function maxAbs(tensor: HostTensor): number {
  let largest = 0;
  for (const value of tensor.data) largest = Math.max(largest, Math.abs(value));
  return largest;
}

export function compareTensors(
  group: string,
  name: string,
  actual: HostTensor | undefined,
  reference: HostTensor,
  tolerance: number,
): Comparison {
  const differs = (error: number, problem: string): Comparison => ({ group, name, error, tolerance, problem });
  if (actual === undefined) return differs(Infinity, "not computed");
  if (actual.shape.join() !== reference.shape.join()) {
    return differs(Infinity, `shape [${actual.shape.join(", ")}] instead of [${reference.shape.join(", ")}]`);
  }
  let error = 0;
  let worst = 0;
  for (const [index, value] of reference.data.entries()) {
    const difference = Math.abs((actual.data[index] ?? NaN) - value);
    if (difference <= error) continue;
    worst = index;
    error = Number.isNaN(difference) ? Infinity : difference;
  }
  const comparison = { group, name, error, tolerance };
  if (agrees(comparison)) return comparison;
  const at = `[${indices(worst, reference.shape).join(", ")}]`;
  return differs(error, `${actual.data[worst]} instead of ${reference.data[worst]} at ${at}`);
}

/** Outputs agree within 1e-4 of their scale, which float32 reaches. */
export function compareOutput(name: string, actual: HostTensor | undefined, reference: HostTensor): Comparison {
  return compareTensors("outputs", name, actual, reference, 1e-4 * Math.max(1, maxAbs(reference)));
}

/** Gradients agree within 1e-4 of their tensor's scale plus 1e-5 of the model's largest gradient. */
export function compareGradient(
  name: string,
  actual: HostTensor | undefined,
  reference: HostTensor,
  largestOfModel: number,
): Comparison {
  return compareTensors("gradients", name, actual, reference, 1e-4 * maxAbs(reference) + 1e-5 * largestOfModel);
}

/** A case's gradients by its inputs (of io.safetensors) and by parameters (grads.safetensors, if there), as "grad.NAME". */
export async function expectedGradients(
  reference: ReferenceCase,
  io: TensorMap<HostTensor>,
): Promise<Record<string, HostTensor>> {
  const byInputs = prefixed(select(io, "grad."), "grad.");
  if ((await reference.bytes("grads.safetensors")) === undefined) return byInputs;
  return { ...byInputs, ...prefixed(await reference.tensors("grads.safetensors"), "grad.") };
}

/**
 * Gradients under the reference's names. The largest of the model is what meta.json notes, or else the largest of
 * these.
 */
export async function compareGradients(
  reference: ReferenceCase,
  actual: TensorMap<HostTensor>,
  expected: TensorMap<HostTensor>,
): Promise<Comparison[]> {
  const meta = (await reference.json("meta.json")) as { readonly notes?: { readonly max_abs_grad?: number } };
  const largest = meta.notes?.max_abs_grad ?? Math.max(...Object.values(expected).map(maxAbs));
  return Object.entries(expected).map(([name, tensor]) => compareGradient(name, actual[name], tensor, largest));
}

/** Names and shapes of a model's parameters agree with a checkpoint's. */
export function compareParameters(
  name: string,
  specs: Readonly<Record<string, TensorSpec>>,
  weights: Readonly<Record<string, { readonly shape: Shape }>>,
): Comparison {
  return compareExactly("parameters", name, () => checkParameters(specs, weights));
}

/** Something that `check` throws for where it is not exactly as it should be. */
export function compareExactly(group: string, name: string, check: () => void): Comparison {
  try {
    check();
    return { group, name, error: 0, tolerance: 0 };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return { group, name, error: Infinity, tolerance: 0, problem: error.message };
  }
}

/** Tensors that are in none of the comparisons, whose names may say more after a space, and that `isInput` does not match. */
export function uncompared(
  tensors: TensorMap<HostTensor>,
  comparisons: readonly Comparison[],
  isInput: RegExp,
): string[] {
  const compared = new Set(comparisons.map(({ name }) => name.split(" ")[0]));
  return Object.keys(tensors).filter((name) => !isInput.test(name) && !compared.has(name));
}

/** Position of an element in each axis. */
function indices(index: number, shape: Shape): number[] {
  const position: number[] = [];
  let rest = index;
  for (const size of [...shape].reverse()) {
    position.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return position;
}

// ---------------------------------------------------------------------------------------------------------------------
// Insides of models

/**
 * Compares tensors that a program does not return: each reference with all results of single operations, of which one of
 * its shape must agree. So they need no names in the model, and a wrong one still shows.
 */
export async function compareInsides(
  run: RunOnce,
  program: Program,
  params: TensorMap<HostTensor>,
  inputs: TensorMap<HostTensor>,
  references: TensorMap<HostTensor>,
): Promise<Comparison[]> {
  const shapes = new Set(Object.values(references).map(({ shape }) => shape.join()));
  if (shapes.size === 0) return [];
  const observed: Program = <T>(ops: Ops<T>, params: TensorMap<T>, inputs: TensorMap<T>): TensorMap<T> => {
    const seen = new Set<T>();
    const note = (result: T): void => {
      if (ops.dtype(result) === "float32" && shapes.has(ops.shape(result).join())) seen.add(result);
    };
    program(noting(ops, note), params, inputs);
    return Object.fromEntries([...seen].map((result, index) => [String(index), result]));
  };
  const results = Object.values(await run(observed, params, inputs));
  return Object.entries(references).map(([name, reference]) => compareClosest(name, results, reference));
}

/** Compares with that of several tensors which is closest. */
export function compareClosest(name: string, candidates: readonly HostTensor[], reference: HostTensor): Comparison {
  return candidates
    .map((candidate) => compareOutput(name, candidate, reference))
    .reduce((best, next) => (next.error < best.error ? next : best), compareOutput(name, undefined, reference));
}

/** The same operations, with `note` called for each tensor that one gives. */
function noting<T>(ops: Ops<T>, note: (result: T) => void): Ops<T> {
  const silent = new Set<PropertyKey>(["shape", "dtype", "constant", "scalar", "valueAndGrad"]);
  const wrap = <O extends object>(operations: O): O =>
    new Proxy(operations, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== "function") return name === "fused" && value ? wrap(value) : value;
        return (...args: unknown[]): unknown => {
          const result: unknown = Reflect.apply(value, target, args);
          if (!silent.has(name)) note(result as T);
          return result;
        };
      },
    });
  return wrap(ops);
}
