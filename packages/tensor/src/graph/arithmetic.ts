import { GraphBuilder } from "./builder.js";
import { forElementwise } from "./elementwise.js";
import { applyRule, reachable, type ByOperation, type Node } from "./node.js";
import { sizeOf } from "../core/host-tensor.js";
import type { Program, TensorSpec } from "../core/program.js";

/** The arithmetic and memory traffic that a program needs at least, on any backend. */
export interface Arithmetic {
  /** Multiply-adds of its convolutions and matrix products, gradients included. */
  readonly multiplyAdds: number;
  /** Bytes of their operands and results, each moved once. */
  readonly bytes: number;
  /**
   * The same multiply-adds by the parameter that they belong to: a layer's to its weight, and those of products without
   * a weight, as in attention, to the layer that their operands came from last. Under "" those that no layer precedes.
   */
  readonly multiplyAddsOf: Readonly<Record<string, number>>;
}

/**
 * Counts a program's convolutions and matrix products from its recorded graph; nothing is computed. One multiply-add is
 * two floating-point operations.
 *
 * @example
 * countArithmetic((ops, { w }, { x }) => ({ y: ops.matmul(x, w) }), { w: { shape: [3, 4] } }, { x: { shape: [2, 3] } });
 * // { multiplyAdds: 24, bytes: 104, multiplyAddsOf: { w: 24 } }
 */
export function countArithmetic<In extends string>(
  program: Program<In>,
  params: Readonly<Record<string, TensorSpec>>,
  inputs: Readonly<Record<In, TensorSpec>>,
): Arithmetic {
  const builder = new GraphBuilder();
  const weights = builder.inputs(params);
  const owners = new Map<Node, Owner>(
    Object.entries(weights).map(([parameter, node]) => [node, { parameter, isWeight: true }]),
  );
  const outputs = program(builder.ops, weights, builder.inputs(inputs));

  let multiplyAdds = 0;
  let bytes = 0;
  const multiplyAddsOf: Record<string, number> = {};
  for (const node of reachable(Object.values<Node>(outputs))) {
    const owner = owners.get(node) ?? inheritedOwner(node, owners);
    if (owner) owners.set(node, owner);
    const count = applyRule(counts, node);
    if (count === 0) continue;
    multiplyAdds += count;
    for (const tensor of [node, ...node.inputs]) bytes += sizeOf(tensor.shape) * Float32Array.BYTES_PER_ELEMENT;
    const name = owner?.parameter ?? "";
    multiplyAddsOf[name] = (multiplyAddsOf[name] ?? 0) + count;
  }
  return { multiplyAdds, bytes, multiplyAddsOf };
}

/** The layer that a value belongs to. */
interface Owner {
  readonly parameter: string;
  /** The value is the parameter itself, perhaps scaled or reshaped: what is computed with it is the parameter's layer. */
  readonly isWeight: boolean;
}

function inheritedOwner(node: Node, owners: ReadonlyMap<Node, Owner>): Owner | undefined {
  const latestFirst = [...node.inputs].filter(({ op }) => op !== "constant").sort((a, b) => b.id - a.id);
  const found = latestFirst.map((input) => owners.get(input));
  const owner = found.find((one) => one?.isWeight) ?? found.find((one) => one !== undefined);
  return owner && { parameter: owner.parameter, isWeight: found.every((one) => one?.isWeight) };
}

const none = (): number => 0;

/** How many multiply-adds an operation is. */
const counts: ByOperation<[], number> = {
  ...forElementwise(() => none),
  matmul: ({ inputs: [a], attributes, shape }) => sizeOf(shape) * a.shape.at(attributes.transposeA ? -2 : -1)!,
  // [N, Co, H, W] results, each from Ci * kh * kw products.
  conv2d: ({ inputs: [, weight], shape }) => sizeOf(shape) * sizeOf(weight.shape.slice(1)),
  // As many as forward: operands gradient [N, Co, H, W] and weight [Co, Ci, kh, kw].
  conv2dInputGrad: ({ inputs: [gradient, weight] }) => sizeOf(gradient.shape) * sizeOf(weight.shape.slice(1)),
  // Likewise: operands input and gradient [N, Co, H, W], result [Co, Ci, kh, kw].
  conv2dWeightGrad: ({ inputs: [, gradient], shape }) => sizeOf(gradient.shape) * sizeOf(shape.slice(1)),
  input: none,
  constant: none,
  pow: none,
  cast: none,
  sum: none,
  mean: none,
  max: none,
  argMax: none,
  softmax: none,
  normalize: none,
  inverseStd: none,
  avgPool2d: none,
  maxPool2d: none,
  resizeNearest: none,
  reshape: none,
  transpose: none,
  broadcastTo: none,
  concat: none,
  slice: none,
  pad: none,
  gather: none,
  stopGradient: none,
  variable: none,
};
