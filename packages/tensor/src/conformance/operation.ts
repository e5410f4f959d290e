import { sameShape, show } from "../core/shapes.js";
import { HostTensor, sizeOf } from "../core/host-tensor.js";
import type { Ops, TensorMap } from "../core/ops.js";
import type { Program } from "../core/program.js";
import { random } from "../core/random.js";
import { referenceOps } from "../reference/ops.js";
import { fromHost, toHost, type ReferenceTensor } from "../reference/tensor.js";
import { mapTensors } from "../core/parameters.js";
import { compare, failed, type ConformanceCase } from "./case.js";
import { differenceOps, differentiate } from "./differences.js";

/** A function of named tensors with one result. */
type Operation<K extends string> = <T>(ops: Ops<T>, tensors: Readonly<Record<K, T>>) => T;

export interface OperationOptions<K extends string> {
  /** Tensors that are not differentiated, besides those that are not float32. Default: none. */
  readonly fixed?: readonly K[];
  /** False where the result has no gradient. Default true. */
  readonly gradient?: boolean;
  /** Largest error of the value, relative to the largest element of the result or 1. Default 1e-6. */
  readonly tolerance?: number;
  /** The same of gradients. Default 1e-5. */
  readonly gradientTolerance?: number;
}

/** Float32 has 24 bits (6e-8): some ten roundings. */
const VALUE_TOLERANCE = 1e-6;
/** Sums of products of values that are themselves rounded. */
const GRADIENT_TOLERANCE = 1e-5;
/** Elements of each tensor whose gradient is compared: differences of all would take minutes. */
const sampledElements = (order: "first" | "second", size: number): number => (order === "first" && size < 1000 ? 8 : 3);
/** Operations of at most so many elements are differentiated twice. */
const SECOND_ORDER_ELEMENTS = 40;

/**
 * The cases of one operation: its value against the reference and, if it has them, its gradients, first and
 * second, against differences of the reference.
 */
export function operation<K extends string>(
  name: string,
  tensors: Readonly<Record<K, HostTensor>>,
  compute: Operation<K>,
  options: OperationOptions<K> = {},
): ConformanceCase[] {
  const { fixed = [], gradient = true, tolerance = VALUE_TOLERANCE, gradientTolerance = GRADIENT_TOLERANCE } = options;
  const entries = Object.entries<HostTensor>(tensors);
  const isVaried = ([key, tensor]: [string, HostTensor]): boolean =>
    tensor.dtype === "float32" && !(fixed as readonly string[]).includes(key);
  const varied: TensorMap<HostTensor> = Object.fromEntries(entries.filter(isVaried));
  const rest: TensorMap<HostTensor> = Object.fromEntries(entries.filter((entry) => !isVaried(entry)));
  const call = <T>(ops: Ops<T>, all: TensorMap<T>): T => compute(ops, all as Readonly<Record<K, T>>);
  const reference = (): ReferenceTensor => call(referenceOps, mapTensors({ ...varied, ...rest }, fromHost));

  const value: ConformanceCase = {
    name: `value of ${name}`,
    async check(adapter) {
      const program: Program = (ops, params, inputs) => ({ result: call(ops, { ...params, ...inputs }) });
      return compare(await adapter.evaluate(program, varied, rest), { result: toHost(reference()) }, tolerance);
    },
  };
  if (!gradient) return [value];

  // The gradient of a weighted sum of the result, with weights that no error is likely to be orthogonal to.
  const weighted = <T>(ops: Ops<T>, all: TensorMap<T>): T => {
    const result = call(ops, all);
    const weights = random(name, "weights").normal(ops.shape(result));
    return ops.sum(ops.mul(result, ops.constant(weights.data, weights.shape)));
  };
  const first: ConformanceCase = {
    name: `gradient of ${name}`,
    check: gradientCheck("first", name, varied, rest, weighted, gradientTolerance),
  };

  const elements = Object.values(varied).reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  if (elements > SECOND_ORDER_ELEMENTS) return [value, first];
  // A weighted sum of the first gradients, to be differentiated once more.
  const weightedGradients = <T>(ops: Ops<T>, all: TensorMap<T>): T => {
    const own = Object.fromEntries(Object.keys(varied).map((key) => [key, all[key] as T]));
    const { grads } = ops.valueAndGrad((params) => ({ loss: weighted(ops, { ...all, ...params }), aux: {} }), own);
    const terms = Object.entries(grads).map(([key, grad]) => {
      const weights = random(name, "second weights", key).normal(ops.shape(grad));
      return ops.sum(ops.mul(grad, ops.constant(weights.data, weights.shape)));
    });
    return terms.reduce((sum, term) => ops.add(sum, term));
  };
  const second: ConformanceCase = {
    name: `second derivative of ${name}`,
    check: gradientCheck("second", name, varied, rest, weightedGradients, 5 * gradientTolerance),
  };
  return [value, first, second];
}

/** Compares an adapter's gradients of a scalar function at sampled elements with differences of the reference. */
function gradientCheck(
  order: "first" | "second",
  name: string,
  varied: TensorMap<HostTensor>,
  rest: TensorMap<HostTensor>,
  loss: <T>(ops: Ops<T>, all: TensorMap<T>) => T,
  tolerance: number,
): ConformanceCase["check"] {
  const program: Program = (ops, params, inputs) =>
    ops.valueAndGrad((inner) => ({ loss: loss(ops, { ...inner, ...inputs }), aux: {} }), params).grads;

  const sampled = mapTensors(varied, ({ shape }, key) =>
    random(name, "sample", key)
      .permutation(sizeOf(shape))
      .slice(0, sampledElements(order, sizeOf(shape))),
  );
  const at = (elements: Int32Array, value: (element: number) => number): HostTensor =>
    HostTensor.from([elements.length], Array.from(elements, value));
  const differences = (): TensorMap<HostTensor> => {
    const params = mapTensors(varied, fromHost);
    const all = { ...params, ...mapTensors(rest, fromHost) };
    return mapTensors(params, (param, key) =>
      at(sampled[key]!, (element) =>
        differentiate(param, element, (moved) => loss(differenceOps, { ...all, [key]: moved }).data[0] as number),
      ),
    );
  };
  // Computed once for all adapters that are tested.
  let expected: TensorMap<HostTensor> | undefined;

  return async (adapter) => {
    const actual = await adapter.evaluate(program, varied, rest);
    for (const [key, { shape }] of Object.entries(varied)) {
      const got = actual[key]?.shape;
      if (!got || !sameShape(got, shape)) {
        return failed(`gradient of ${key}: expected shape ${show(shape)}, got ${got ? show(got) : "none"}`);
      }
    }
    expected ??= differences();
    const picked = mapTensors(sampled, (elements, key) =>
      at(elements, (element) => actual[key]!.data[element] as number),
    );
    return compare(picked, expected, tolerance);
  };
}
