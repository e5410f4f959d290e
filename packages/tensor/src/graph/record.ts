import { InvalidArgumentError } from "../core/errors.js";
import type { CompileSpec, Program } from "../core/program.js";
import { mapTensors } from "../core/parameters.js";
import type { GraphBuilder } from "./builder.js";
import type { Node } from "./node.js";

/**
 * Records a program: its outputs, and its frozen parameters, as nodes.
 *
 * @throws InvalidArgumentError for one name of an input and a parameter.
 */
export function recordProgram<In extends string, Out extends string>(
  builder: GraphBuilder,
  program: Program<In, Out>,
  { params = {}, frozen = {}, inputs }: CompileSpec<In>,
): { readonly outputs: Readonly<Record<Out, Node>>; readonly constants: Readonly<Record<string, Node>> } {
  const clash = Object.keys(inputs).find((name) => name in params || name in frozen);
  if (clash !== undefined) {
    throw new InvalidArgumentError(
      `compile: "${clash}" is the name of an input and of a parameter. Rename one of them.`,
    );
  }
  const constants = mapTensors(frozen, ({ data, shape }) => builder.constant(data, shape));
  const outputs = program(builder.ops, { ...builder.inputs(params), ...constants }, builder.inputs(inputs));
  return { outputs, constants };
}
