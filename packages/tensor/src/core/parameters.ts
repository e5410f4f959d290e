import { ParameterError } from "./errors.js";
import type { HostTensor, Shape } from "./host-tensor.js";
import type { TensorMap } from "./ops.js";
import type { TensorSpec } from "./program.js";

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

/**
 * Throws one `ParameterError` that lists every mismatch between given weights and a model; returns if there is none.
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

export type HostParams = TensorMap<HostTensor>;
