import { InvalidArgumentError } from "./errors.js";
import { HostTensor, type Shape } from "./host-tensor.js";
import type { Ops } from "./ops.js";

/** A value in a message: "nothing", "a list of 3", "a HostTensor". */
export function kindOf(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (value instanceof HostTensor) return "a HostTensor";
  if (typeof value === "object") return "an object";
  return typeof value === "function" ? "a function" : `the ${typeof value} ${JSON.stringify(value)}`;
}

/** The shape of what `Ops.shape` was given. Throws `InvalidArgumentError` for what is no tensor. */
export function givenShape(x: { readonly shape: Shape } | undefined): Shape {
  const shape = x?.shape; // callers in plain JavaScript may give anything
  if (shape !== undefined && Array.isArray(shape)) return shape as Shape;
  throw new InvalidArgumentError(`Expected a tensor, got ${kindOf(x)}. Look for an argument that is missing.`);
}

/**
 * The shape of an argument, for functions over `Ops` to begin with.
 *
 * @param where the function, for messages
 * @param name the argument's
 *
 * Throws `InvalidArgumentError`, naming both, where `ops` are no operations or `x` is no tensor of theirs.
 *
 * @example
 * const [batch = 1] = tensorShape(ops, "myLoss", "prediction", prediction);
 */
export function tensorShape<T>(ops: Ops<T>, where: string, name: string, x: T): Shape {
  if (typeof (ops as Partial<Ops<T>> | undefined)?.shape !== "function") {
    throw new InvalidArgumentError(
      `${where}: expected operations (ops) as the first argument, got ${kindOf(ops)}. A program is given them by its backend.`,
    );
  }
  if (typeof x !== "object" || x === null || Array.isArray(x) || x instanceof HostTensor) {
    throw new InvalidArgumentError(
      `${where}: expected ${name} to be a tensor of these operations, got ${kindOf(x)}.` +
        (x instanceof HostTensor
          ? " Give it to the program as an input, or make it by ops.constant(data, shape)."
          : ""),
    );
  }
  try {
    return ops.shape(x);
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new InvalidArgumentError(`${where}: ${name}: ${error.message}`, { cause: error });
  }
}

/** The shape of a `HostTensor` argument. Throws `InvalidArgumentError`, naming the function and the argument, for what is none. */
export function hostShape(where: string, name: string, x: HostTensor): Shape {
  const shape = (x as HostTensor | undefined)?.shape;
  if (shape !== undefined && Array.isArray(shape)) return x.shape;
  throw new InvalidArgumentError(`${where}: expected ${name} to be a HostTensor, got ${kindOf(x)}.`);
}

/** What to do with a shape [batch, height, width, channels], as a sentence to add; "" for another. */
export function layoutHint(shape: Shape): string {
  const [, channels = 0, , last = 0] = shape;
  if (shape.length === 4 && last <= 4 && channels > 4) {
    return " This looks like [batch, height, width, channels]: put the channels second, by ops.transpose(x, [0, 3, 1, 2]).";
  }
  return shape.length === 3 ? " Images have four axes: put the batch first, of 1 for one image." : "";
}

/** Throws `InvalidArgumentError` unless an argument is an object with these fields. */
export function checkFields(where: string, name: string, value: unknown, fields: readonly string[]): void {
  const given = typeof value === "object" && value !== null ? { ...value } : {};
  const missing = fields.filter((field) => (given as Readonly<Record<string, unknown>>)[field] === undefined);
  if (missing.length === 0) return;
  throw new InvalidArgumentError(
    `${where}: expected ${name} to be { ${fields.join(", ")} }, got ${kindOf(value)} without ${missing.join(" and ")}.`,
  );
}

/** The error for a name that is none of those known. */
export function unknownName(
  where: string,
  name: string,
  value: unknown,
  known: readonly string[],
): InvalidArgumentError {
  return new InvalidArgumentError(`${where}: ${name} must be one of ${known.join(", ")}; got ${kindOf(value)}.`);
}
