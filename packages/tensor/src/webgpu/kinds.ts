import type { Node, OpName } from "../graph/node.js";

/** Operations that take a kernel of their own, around which others are joined. */
const PRODUCTS: ReadonlySet<OpName> = new Set<OpName>(["matmul", "conv2d", "conv2dInputGrad", "conv2dWeightGrad"]);
const ROWS: ReadonlySet<OpName> = new Set<OpName>([
  ...(["sum", "mean", "max", "argMax", "softmax", "normalize", "inverseStd"] as const),
]);

/** Each element is computed from those at the same place, but for operands that broadcast. */
const ELEMENTWISE: ReadonlySet<OpName> = new Set<OpName>([
  ...(["neg", "abs", "sign", "exp", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "relu", "erf", "floor"] as const),
  ...(["add", "sub", "mul", "div", "pow", "maximum", "minimum", "equal", "greater", "less", "where", "cast"] as const),
  "reshape",
]);

/** Elements are those of the operand, elsewhere: reading them again costs no more than reading a copy. */
const MOVES: ReadonlySet<OpName> = new Set<OpName>(["reshape", "transpose", "broadcastTo", "slice"]);

export const isProduct = ({ op }: Node): boolean => PRODUCTS.has(op);
export const isRows = ({ op }: Node): boolean => ROWS.has(op);
export const isAnchor = (node: Node): boolean => isProduct(node) || isRows(node);
export const isElementwise = ({ op }: Node): boolean => ELEMENTWISE.has(op);
export const isMove = ({ op }: Node): boolean => MOVES.has(op);
/** What is there before anything is computed. */
export const isGiven = ({ op }: Node): boolean => op === "input" || op === "constant";

/** What depends on constants alone, of nodes that follow their operands. */
export function fixedNodes(nodes: readonly Node[]): ReadonlySet<Node> {
  const fixed = new Set<Node>();
  for (const node of nodes) if (node.op !== "input" && node.inputs.every((input) => fixed.has(input))) fixed.add(node);
  return fixed;
}
