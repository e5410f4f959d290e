import { ParameterError } from "../core/errors.js";
import type { Shape } from "../core/host-tensor.js";
import type { Initializer } from "../core/initializers.js";
import type { Ops, TensorMap } from "../core/ops.js";

/**
 * A model's access to its parameters: a view of a parameter record under a dotted prefix.
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

/** The dotted path of a child. */
export const childPath = (path: string, name: string | number): string =>
  path === "" ? String(name) : `${path}.${name}`;

/** A scope over given tensors. A missing parameter or a wrong shape is a `ParameterError` that names it. */
export function scope<T>(ops: Ops<T>, params: TensorMap<T>, path = ""): Scope<T> {
  return {
    path,
    at: (name) => scope(ops, params, childPath(path, name)),
    param(name, shape, _init) {
      const full = childPath(path, name);
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
