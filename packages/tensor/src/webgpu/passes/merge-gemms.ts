import { gpuBytes, KernelGraph, constantNodes, reachable, type Outputs } from "../ir/graph.js";
import { isElementwise, isView, type Node, type NodeOf } from "../ir/node.js";
import type { PassLimits } from "./limits.js";

/**
 * Merges GEMMs with the same left operand and different weights into one GEMM, whose columns are then sliced: a GPU has more
 * parallel work and reads the operand once. Examples are attention's queries, keys and values, and the keys and values of all
 * layers that attend to one text.
 *
 * Afterwards no merged weights take more than `maxTensorBytes`.
 */
export function mergeGemms(outputs: Outputs, { maxBuffers, maxTensorBytes }: PassLimits): Outputs {
  const nodes = reachable(Object.values(outputs));
  const groups = mergeable(nodes, maxTensorBytes);
  if (groups.size === 0) return outputs;
  const graph = new KernelGraph();
  const known = new Map<Node, Node>();
  const copied = (node: Node): Node => {
    const found = known.get(node);
    if (found) return found;
    const copy = graph.copy(node, node.inputs.map(copied));
    known.set(node, copy);
    return copy;
  };
  for (const node of nodes) {
    const group = groups.get(node);
    if (group && !known.has(node)) {
      const weights = graph.concat(
        group.map(({ inputs: [, right] }) => copied(right)),
        0,
        maxBuffers,
      );
      const merged = graph.gemm(copied(group[0]!.inputs[0]), weights, { transposeB: true });
      let begin = 0;
      for (const part of group) {
        known.set(part, graph.slice(merged, 1, begin, part.shape[1]!));
        begin += part.shape[1]!;
      }
    } else copied(node);
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, node]) => [name, copied(node)]));
}

/** For each GEMM, the group that it is merged with. */
function mergeable(nodes: readonly Node[], maxBytes: number): ReadonlyMap<Node, readonly NodeOf<"gemm">[]> {
  const constant = constantNodes(nodes);
  const fused = withEpilogue(nodes);
  const byLeft = new Map<Node, NodeOf<"gemm">[][]>();
  for (const node of nodes) {
    if (node.op !== "gemm" || node.shape.length !== 2 || fused.has(node)) continue;
    const { transposeA, transposeB } = node.attributes;
    const [left, right] = node.inputs;
    if (transposeA || !transposeB || constant.has(left) || !constant.has(right)) continue;
    const groups = byLeft.get(left) ?? [];
    const last = groups.at(-1);
    const bytes = [...(last ?? []), node].reduce((sum, { inputs: [, weights] }) => sum + gpuBytes(weights), 0);
    if (last && bytes <= maxBytes) last.push(node);
    else byLeft.set(left, [...groups, [node]]);
  }
  const groups = [...byLeft.values()].flat().filter(({ length }) => length > 1);
  return new Map(groups.flatMap((group) => group.map((node) => [node, group] as const)));
}

/** Nodes whose elements an operation reads one by one: a GEMM's kernel takes it as its epilogue, but not that of several. */
function withEpilogue(nodes: readonly Node[]): ReadonlySet<Node> {
  const found = new Set<Node>();
  for (const node of [...nodes].reverse()) {
    const isEpilogue = isView(node) ? found.has(node) : isElementwise(node);
    if (isEpilogue) for (const input of node.inputs) found.add(input);
  }
  return found;
}
