import type { Ops } from "../core/ops.js";
import type { ParameterSpec, TensorSpec } from "../core/program.js";
import { childPath, type Scope } from "../nn/scope.js";
import { GraphBuilder } from "./builder.js";
import type { Node } from "./node.js";

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
  const tensors: Record<string, Node> = {};
  const declaring = (path: string): Scope<Node> => ({
    path,
    at: (name) => declaring(childPath(path, name)),
    param(name, shape, init) {
      const full = childPath(path, name);
      specs[full] ??= { shape, init };
      return (tensors[full] ??= builder.input(full, shape, "float32"));
    },
  });
  model(builder.ops, declaring(""), builder.inputs(inputs, "input:"));
  return specs;
}
