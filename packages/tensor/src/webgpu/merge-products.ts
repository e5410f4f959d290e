import { GraphBuilder } from "../graph/builder.js";
import { reachable, type Node } from "../graph/node.js";
import { fixedNodes, isElementwise, isMove } from "./kinds.js";
import { concatenated } from "./rewrite.js";
import { gpuBytes } from "./split-large.js";

/**
 * The same graph with products of one matrix by several matrices of weights as one product, of which each takes its columns: a
 * GPU has more to do at once, and reads the matrix once. Attention's queries, keys and values are such, and the keys and values of
 * all layers that attend to one text.
 *
 * @param maxBuffers which a kernel may read
 * @param maxBytes of the weights of one product
 */
export function mergeProducts(
  outputs: Readonly<Record<string, Node>>,
  maxBuffers: number,
  maxBytes: number,
): Readonly<Record<string, Node>> {
  const nodes = reachable(Object.values(outputs));
  const groups = mergeable(nodes, maxBytes);
  if (groups.size === 0) return outputs;
  const builder = new GraphBuilder();
  const { ops } = builder;
  const known = new Map<Node, Node>();
  const copied = (node: Node): Node => {
    const found = known.get(node);
    if (found) return found;
    const copy = builder.copy(node, node.inputs.map(copied));
    known.set(node, copy);
    return copy;
  };
  for (const node of nodes) {
    const group = groups.get(node);
    if (group && !known.has(node)) {
      const weights = group.map(({ inputs: [, right] }) => copied(right!));
      const together = concatenated(builder, weights, 0, maxBuffers);
      const product = ops.matmul(copied(node.inputs[0]!), together, { transposeB: true });
      let begin = 0;
      for (const part of group) {
        known.set(part, ops.slice(product, 1, begin, part.shape[1]!));
        begin += part.shape[1]!;
      }
    } else copied(node);
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, node]) => [name, copied(node)]));
}

/** By product, those that become one with it. */
function mergeable(nodes: readonly Node[], maxBytes: number): ReadonlyMap<Node, readonly Node[]> {
  const fixed = fixedNodes(nodes);
  const joined = joinedNodes(nodes);
  const byLeft = new Map<Node, Node[][]>();
  for (const node of nodes) {
    const { op, inputs, attributes, shape } = node;
    const [left, right] = inputs as [Node, Node];
    const isLayer = op === "matmul" && attributes.transposeB && !attributes.transposeA && shape.length === 2;
    if (!isLayer || fixed.has(left) || !fixed.has(right) || joined.has(node)) continue;
    const groups = byLeft.get(left) ?? [];
    const last = groups.at(-1);
    const bytes = [...(last ?? []), node].reduce((sum, { inputs: [, weights] }) => sum + gpuBytes(weights!), 0);
    if (last && bytes <= maxBytes) last.push(node);
    else byLeft.set(left, [...groups, [node]]);
  }
  const groups = [...byLeft.values()].flat().filter(({ length }) => length > 1);
  return new Map(groups.flatMap((group) => group.map((node) => [node, group] as const)));
}

/** Products that an operation on their elements follows: it joins their kernel, but not that of several. */
function joinedNodes(nodes: readonly Node[]): ReadonlySet<Node> {
  const joined = new Set<Node>();
  for (const node of [...nodes].reverse()) {
    const isJoining = isMove(node) ? joined.has(node) : isElementwise(node);
    if (isJoining) for (const input of node.inputs) joined.add(input);
  }
  return joined;
}
