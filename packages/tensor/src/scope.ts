import { ParameterError } from "./errors.js";
import type { HostTensor, Shape } from "./host-tensor.js";
import type { Initializer } from "./initializers.js";
import type { Ops, TensorMap } from "./ops.js";
import type { ParameterSpec, TensorSpec } from "./program.js";
import { GraphBuilder } from "./graph/builder.js";

/**
 * Where a model finds its parameters: a view of a parameter record under a dotted prefix.
 *
 * A model states each parameter's shape and initialisation where it uses it, so one function
 * is the model's forward pass, its list of parameters and its initialisation.
 *
 * @example
 * function dense<T>(ops: Ops<T>, p: Scope<T>, x: T): T {
 *   return linear(ops, x, p.param("weight", [4, 8], uniform(0.1)), p.param("bias", [4], zeros));
 * }
 */
export interface Scope<T> {
  /** The dotted path so far, "" at the root. */
  readonly path: string;
  /** The scope of a child module: `p.at("attn1").at("to_q")` or `p.at("attn1.to_q")`. */
  at(name: string | number): Scope<T>;
  /** The parameter of this name, which must have exactly this shape. */
  param(name: string, shape: Shape, init: Initializer): T;
}

const join = (path: string, name: string | number): string => (path === "" ? String(name) : `${path}.${name}`);

/** A scope over given tensors. A missing parameter or a wrong shape is a `ParameterError` that names it. */
export function scope<T>(ops: Ops<T>, params: TensorMap<T>, path = ""): Scope<T> {
  return {
    path,
    at: (name) => scope(ops, params, join(path, name)),
    param(name, shape, _init) {
      const full = join(path, name);
      const tensor = params[full];
      if (tensor === undefined) {
        throw new ParameterError(
          "MISSING_PARAMETER",
          `The model needs the parameter "${full}" of shape [${shape.join(", ")}], which the given weights lack. ` +
            `Check that the weights belong to this configuration.`,
        );
      }
      const actual = ops.shape(tensor);
      if (actual.length !== shape.length || actual.some((size, axis) => size !== shape[axis])) {
        throw new ParameterError(
          "SHAPE_MISMATCH",
          `The parameter "${full}" must have shape [${shape.join(", ")}], the given weights have [${actual.join(", ")}]. ` +
            `Check that the weights belong to this configuration.`,
        );
      }
      return tensor;
    },
  };
}

/**
 * Names, shapes and initialisations of all parameters that a model uses, in the order of first use.
 * The model is traced once with symbolic inputs; nothing is computed.
 *
 * @example
 * const specs = declareParameters((ops, p, { x }) => dense(ops, p, x), { x: { shape: [1, 8] } });
 */
export function declareParameters<In extends string>(
  model: <T>(ops: Ops<T>, p: Scope<T>, inputs: Readonly<Record<In, T>>) => unknown,
  inputs: Readonly<Record<In, TensorSpec>>,
): Record<string, ParameterSpec> {
  const builder = new GraphBuilder();
  const specs: Record<string, ParameterSpec> = {};
  const tensors: Record<string, ReturnType<GraphBuilder["input"]>> = {};
  const declaring = (path: string): Scope<ReturnType<GraphBuilder["input"]>> => ({
    path,
    at: (name) => declaring(join(path, name)),
    param(name, shape, init) {
      const full = join(path, name);
      specs[full] ??= { shape, init };
      return (tensors[full] ??= builder.input(full, shape, "float32"));
    },
  });
  model(builder.ops, declaring(""), builder.inputs(inputs, "input:"));
  return specs;
}

/**
 * Lists everything that is wrong with given weights for a model, at once, as one `ParameterError`; returns if nothing is.
 */
export function checkParameters(
  specs: Readonly<Record<string, TensorSpec>>,
  weights: Readonly<Record<string, { readonly shape: Shape; readonly dtype?: string }>>,
): void {
  const missing: string[] = [];
  const wrong: string[] = [];
  const ofAnotherType: string[] = [];
  for (const [name, { shape, dtype = "float32" }] of Object.entries(specs)) {
    const found = weights[name];
    if (!found) {
      missing.push(`  missing: ${name} [${shape.join(", ")}]`);
      continue;
    }
    if (found.shape.join() !== shape.join()) {
      wrong.push(`  shape: ${name} must be [${shape.join(", ")}], got [${found.shape.join(", ")}]`);
    }
    if (found.dtype !== undefined && found.dtype !== dtype) {
      ofAnotherType.push(`  type: ${name} must be ${dtype}, got ${found.dtype}`);
    }
  }
  const extra = Object.keys(weights)
    .filter((name) => !Object.hasOwn(specs, name))
    .map((name) => `  unexpected: ${name} [${weights[name]?.shape.join(", ")}]`);
  const kinds = [
    { code: "MISSING_PARAMETER", problems: missing, called: "missing" },
    { code: "SHAPE_MISMATCH", problems: wrong, called: "of another shape" },
    { code: "DTYPE_MISMATCH", problems: ofAnotherType, called: "of another type" },
    { code: "UNEXPECTED_PARAMETER", problems: extra, called: "unexpected" },
  ] as const;
  const occurring = kinds.filter(({ problems }) => problems.length > 0);
  const [first] = occurring;
  if (first === undefined) return;
  const counts = occurring.map(({ problems, called }) => `${problems.length} ${called}`).join(", ");
  const problems = occurring.flatMap((kind) => kind.problems);
  throw new ParameterError(
    first.code,
    `The weights do not fit the model (${counts}):\n` +
      `${problems.join("\n")}\nCheck that the weights belong to this configuration.`,
  );
}

/** The parameters whose names begin with `prefix`, without it. `select(params, "student.")`. */
export function select<V>(params: Readonly<Record<string, V>>, prefix: string): Record<string, V> {
  return Object.fromEntries(
    Object.entries(params)
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, value]) => [name.slice(prefix.length), value]),
  );
}

/** The same parameters with `prefix` before each name. */
export function prefixed<V>(params: Readonly<Record<string, V>>, prefix: string): Record<string, V> {
  return Object.fromEntries(Object.entries(params).map(([name, value]) => [prefix + name, value]));
}

/** A record of the same names with each value replaced. */
export function mapTensors<A, B>(
  params: Readonly<Record<string, A>>,
  f: (value: A, name: string) => B,
): Record<string, B> {
  return Object.fromEntries(Object.entries(params).map(([name, value]) => [name, f(value, name)]));
}

/** Shapes and element types of tensors. */
export function specsOf<Name extends string>(
  tensors: Readonly<Record<Name, HostTensor>>,
): Readonly<Record<Name, TensorSpec>> {
  return mapTensors(tensors, ({ shape, dtype }: HostTensor) => ({ shape, dtype })) as Record<Name, TensorSpec>;
}

export type HostParams = TensorMap<HostTensor>;
