import { sizeOf, type Program, type TensorSpec } from "@sdxs/tensor";
// The recorded graph is internal to the package and no part of its interface.
import { GraphBuilder } from "../../packages/tensor/src/graph/builder.js";

type Node = ReturnType<GraphBuilder["input"]>;

/** What a program cannot do without, however it is computed. */
export interface Arithmetic {
  /** Multiply-adds of its convolutions and matrix products, gradients included. */
  readonly multiplyAdds: number;
  /** Bytes of their operands and results, each moved once. */
  readonly bytes: number;
}

/**
 * Counts a program's convolutions and matrix products from its recorded graph; nothing is computed.
 *
 * @example
 * arithmetic((ops, { w }, { x }) => ({ y: ops.matmul(x, w) }), { w: { shape: [3, 4] } }, { x: { shape: [2, 3] } });
 * // { multiplyAdds: 24, bytes: 104 }
 */
export function arithmetic(
  program: Program,
  params: Readonly<Record<string, TensorSpec>>,
  inputs: Readonly<Record<string, TensorSpec>>,
): Arithmetic {
  const builder = new GraphBuilder();
  const declare = (specs: Readonly<Record<string, TensorSpec>>): Record<string, Node> =>
    Object.fromEntries(
      Object.entries(specs).map(([name, { shape, dtype = "float32" }]) => [name, builder.input(name, shape, dtype)]),
    );
  const outputs = program(builder.ops, declare(params), declare(inputs));
  let multiplyAdds = 0;
  let bytes = 0;
  for (const node of reachable(Object.values(outputs))) {
    const count = multiplyAddsOf(node);
    if (count === 0) continue;
    multiplyAdds += count;
    for (const tensor of [node, ...node.inputs]) bytes += sizeOf(tensor.shape) * Float32Array.BYTES_PER_ELEMENT;
  }
  return { multiplyAdds, bytes };
}

function multiplyAddsOf(node: Node): number {
  switch (node.op) {
    case "matmul": {
      const first = node.inputs[0]?.shape ?? [];
      return sizeOf(node.shape) * (first.at(node.attributes.transposeA ? -2 : -1) ?? 0);
    }
    case "conv2d": // [N, Co, H, W] results, each from Ci * kh * kw products
      return sizeOf(node.shape) * sizeOf(node.inputs[1]?.shape.slice(1) ?? [0]);
    case "conv2dInputGrad": // as many as forward: inputs (gradient [N, Co, H, W], weight [Co, Ci, kh, kw])
      return sizeOf(node.inputs[0]?.shape ?? [0]) * sizeOf(node.inputs[1]?.shape.slice(1) ?? [0]);
    case "conv2dWeightGrad": // likewise: inputs (input, gradient [N, Co, H, W]), result [Co, Ci, kh, kw]
      return sizeOf(node.inputs[1]?.shape ?? [0]) * sizeOf(node.shape.slice(1));
    default:
      return 0;
  }
}

/** Everything that the outputs depend on. Inputs have lower ids than what is made of them. */
function reachable(outputs: readonly Node[]): Set<Node> {
  const found = new Set(outputs);
  for (const node of found) for (const input of node.inputs) found.add(input); // a Set's iteration sees what is added
  return found;
}

/** AdamW reads parameter, gradient and both moments and writes back all but the gradient: seven float32 each. */
export function adamWBytes(parameters: number): number {
  return 7 * Float32Array.BYTES_PER_ELEMENT * parameters;
}
