import { ParameterError, SdxsError } from "../core/errors.js";
import { sameShape, show } from "../core/shapes.js";
import type { HostTensor, Shape } from "../core/host-tensor.js";
import type { TensorMap } from "../core/ops.js";

/** The parts of a `Trainable`'s state, beside "steps"; "averaged" only where it keeps an average. */
export type StatePart = "params" | "m" | "v" | "averaged";

/** The parts of a state. */
export function stateParts(averages: boolean): readonly StatePart[] {
  return averages ? ["params", "m", "v", "averaged"] : ["params", "m", "v"];
}

/** Throws DISPOSED where parameters are used after their disposal. */
export function checkLive(disposed: boolean, caller: string): void {
  if (disposed) {
    throw new SdxsError("DISPOSED", `${caller}: these parameters were disposed of. Make a new trainable.`);
  }
}

/** Shapes of parameters in training, by name. Throws DTYPE_MISMATCH where one is not float32. */
export function trainableShapes(initial: TensorMap<HostTensor>): ReadonlyMap<string, Shape> {
  const shapes = new Map<string, Shape>();
  for (const [name, { shape, dtype }] of Object.entries(initial)) {
    if (dtype !== "float32") {
      throw new SdxsError(
        "DTYPE_MISMATCH",
        `trainable: the parameter "${name}" is ${dtype}; only float32 can be trained.`,
      );
    }
    shapes.set(name, shape);
  }
  return shapes;
}

/** Throws a `ParameterError` where there is not exactly one gradient of the right shape per parameter. */
export function checkGradients<D>(
  shapes: ReadonlyMap<string, Shape>,
  gradients: TensorMap<D>,
  shapeOf: (tensor: D) => Shape,
): void {
  const extra = Object.keys(gradients).find((name) => !shapes.has(name));
  if (extra !== undefined) {
    throw new ParameterError("UNEXPECTED_PARAMETER", `accumulate: "${extra}" is not a parameter in training.`);
  }
  for (const [name, shape] of shapes) {
    const gradient = gradients[name];
    if (gradient === undefined) {
      throw new ParameterError("MISSING_PARAMETER", `accumulate: the gradient of the parameter "${name}" is missing.`);
    }
    if (!sameShape(shapeOf(gradient), shape)) {
      throw new ParameterError(
        "SHAPE_MISMATCH",
        `accumulate: the gradient of "${name}" must have shape ${show(shape)}, got ${show(shapeOf(gradient))}.`,
      );
    }
  }
}

/** The tensors of a saved state, by the names that they have there, and its steps. Throws a `ParameterError` where one is missing or does not fit, or there is a parameter more. */
export function checkState(
  shapes: ReadonlyMap<string, Shape>,
  parts: readonly StatePart[],
  state: TensorMap<HostTensor>,
): { readonly tensors: TensorMap<HostTensor>; readonly steps: number } {
  const tensors: Record<string, HostTensor> = {};
  const missing: string[] = [];
  for (const part of parts) {
    for (const [name, shape] of shapes) {
      const key = `${part}.${name}`;
      const tensor = state[key];
      if (tensor === undefined) {
        missing.push(key);
        continue;
      }
      if (!sameShape(tensor.shape, shape)) {
        throw new ParameterError(
          "SHAPE_MISMATCH",
          `restore: "${key}" must have shape ${show(shape)}, got ${show(tensor.shape)}.`,
        );
      }
      tensors[key] = tensor;
    }
  }
  const { steps } = state;
  if (missing.length > 0 || steps === undefined) {
    throw new ParameterError(
      "MISSING_PARAMETER",
      `restore: the saved state lacks ${[...missing, ...(steps ? [] : ["steps"])].slice(0, 5).join(", ")}. ` +
        `It was saved for another model or other optimiser options.`,
    );
  }
  // A state of a larger model would restore weights that were trained together with others.
  const unknown = Object.keys(state).filter((key) => key.startsWith("params.") && tensors[key] === undefined);
  if (unknown.length > 0) {
    throw new ParameterError(
      "UNEXPECTED_PARAMETER",
      `restore: the saved state has ${unknown.slice(0, 5).join(", ")}, which this model lacks. It was saved for another one.`,
    );
  }
  return { tensors, steps: steps.item() };
}
