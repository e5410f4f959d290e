import { reachable, type Node } from "../graph/node.js";
import { sizeOf } from "../core/host-tensor.js";
import { fixedNodes, isAnchor, isElementwise, isGiven, isMove, isProduct } from "./kinds.js";
import { literal } from "./literal.js";
import { gpuBytes } from "./split-large.js";
import { viewOf } from "./view.js";

/** How the nodes of a graph are shared out among kernels. */
export interface Regions {
  /** In the order in which they are computed. Each is the last node of one kernel, and its result. */
  readonly roots: readonly Node[];
  /** By root, the product, sum or norm that the kernel is built around; none where it only joins elements. */
  readonly anchors: ReadonlyMap<Node, Node>;
  /** Whether a node's elements lie in memory when later kernels run. */
  readonly isStored: (node: Node) => boolean;
}

/** Elements computed again by a kernel that broadcasts them, at most so often: chosen. */
const REPEATS = 4;

/** Nodes joined behind an anchor: chosen. */
const LONGEST = 32;

/** Buffers that an anchor reads of itself, at most. */
const OPERANDS = 2;

/**
 * Joins operations into kernels. Behind a product, a sum or a norm go the operations on its elements that no one else needs half
 * done; what else only one kernel needs is computed there, element by element. The rest is stored.
 *
 * @param maxBuffers which a kernel may read
 * @param maxBytes of what is stored: the parts of a table that is larger are read where they lie
 */
export function regionsOf(outputs: readonly Node[], maxBuffers: number, maxBytes: number): Regions {
  const nodes = reachable(outputs);
  const consumers = new Map<Node, Set<Node>>(nodes.map((node) => [node, new Set()]));
  for (const node of nodes) for (const input of node.inputs) consumers.get(input)!.add(node);
  const isOutput = new Set(outputs);
  const stored = new Set<Node>(
    nodes.filter((node) => (isGiven(node) && literal(node) === undefined) || isOutput.has(node)),
  );
  // What depends on constants alone is computed before anything else, and never together with what does not.
  const fixed = fixedNodes(nodes);
  const rootOf = new Map<Node, Node>();
  const anchors = new Map<Node, Node>();

  for (const anchor of [...nodes].reverse().filter(isAnchor)) {
    const isTaken = (node: Node): boolean =>
      rootOf.has(node) || isAnchor(node) || fixed.has(node) !== fixed.has(anchor);
    const grown = grow(anchor, consumers, isOutput, isTaken, maxBuffers - OPERANDS);
    const region = isProduct(anchor) ? [...grown, ...reordered(grown.at(-1)!, consumers, isOutput, isTaken)] : grown;
    const root = region.at(-1)!;
    for (const node of region) rootOf.set(node, root);
    anchors.set(root, anchor);
    stored.add(root);
  }

  const isStored = (node: Node): boolean => stored.has(node);
  // A convolution's weights, in the order in which it reads them.
  for (const { op, inputs } of nodes) if (op === "conv2d" || op === "conv2dInputGrad") stored.add(inputs[1]!);
  // From the last node to the first: who needs a node is known before it is looked at.
  const users = new Map<Node, Set<Node>>();
  for (const node of [...nodes].reverse()) {
    const kernels = new Set<Node>();
    for (const consumer of consumers.get(node)!) {
      const root = rootOf.get(consumer) ?? (isStored(consumer) ? consumer : undefined);
      for (const kernel of root ? [root] : users.get(consumer)!) kernels.add(kernel);
    }
    users.set(node, kernels);
    const isReadByProduct = [...consumers.get(node)!].some(isProduct);
    if (rootOf.has(node) || isStored(node) || (isGiven(node) && !isReadByProduct)) continue;
    if (gpuBytes(node) > maxBytes) continue;
    const isRepeated = [...consumers.get(node)!].some(
      (consumer) => consumer.op === "broadcastTo" || sizeOf(consumer.shape) >= REPEATS * sizeOf(node.shape),
    );
    const isPrepared = fixed.has(node) && [...consumers.get(node)!].some((consumer) => !fixed.has(consumer));
    if (isReadByProduct ? viewSource(node) === node : !isMove(node) && (kernels.size > 1 || isRepeated || isPrepared))
      stored.add(node);
  }
  // A product's operand may be a view of something that is not stored.
  for (const node of nodes.filter(isProduct)) for (const input of node.inputs) stored.add(viewSource(input));
  limitBuffers();
  return { roots: nodes.filter((node) => isStored(node) && !isGiven(node)), anchors, isStored };

  function viewSource(node: Node): Node {
    return viewOf(node, isStored).source;
  }

  /** Stores more where a kernel would read too many buffers. */
  function limitBuffers(): void {
    const buffers = new Map<Node, Set<Node>>();
    for (const node of nodes) {
      if (isGiven(node)) {
        buffers.set(node, new Set(isStored(node) ? [node] : []));
        continue;
      }
      const read = (): Set<Node> =>
        new Set(
          node.inputs.flatMap((input) => (isStored(input) && !isGiven(input) ? [input] : [...buffers.get(input)!])),
        );
      let own = read();
      while (own.size > maxBuffers) {
        const inline = node.inputs.filter(
          (input) =>
            !isStored(input) && !rootOf.has(input) && buffers.get(input)!.size > 1 && gpuBytes(input) <= maxBytes,
        );
        const largest = inline.sort((a, b) => buffers.get(b)!.size - buffers.get(a)!.size)[0];
        if (!largest) break;
        stored.add(largest);
        own = read();
      }
      buffers.set(node, own);
    }
  }
}

/** The anchor and what joins it, up to the last node that alone stands for all of them. */
function grow(
  anchor: Node,
  consumers: ReadonlyMap<Node, ReadonlySet<Node>>,
  isOutput: ReadonlySet<Node>,
  isTaken: (node: Node) => boolean,
  maxOutside: number,
): readonly Node[] {
  const size = sizeOf(anchor.shape);
  const region = [anchor];
  const inside = new Set(region);
  const outside = new Set<Node>();
  let closed = 1;
  while (region.length < LONGEST) {
    const open = region.filter((node) => [...consumers.get(node)!].some((consumer) => !inside.has(consumer)));
    if (open.length === 0 || open.some((node) => isOutput.has(node))) break;
    const next = open
      .flatMap((node) => [...consumers.get(node)!].filter((consumer) => !inside.has(consumer)))
      .sort((a, b) => a.id - b.id)[0]!;
    const joins = isElementwise(next) && sizeOf(next.shape) === size && !isTaken(next) && sameOrder(next, inside);
    if (!joins) break;
    for (const input of next.inputs) if (!inside.has(input) && literal(input) === undefined) outside.add(input);
    if (outside.size > maxOutside) break;
    region.push(next);
    inside.add(next);
    const isClosed = region.every(
      (node) => node === next || [...consumers.get(node)!].every((user) => inside.has(user)),
    );
    if (isClosed && !region.some((node) => node !== next && isOutput.has(node))) closed = region.length;
  }
  return region.slice(0, closed);
}

/** A transpose that alone reads a product's result, and reshapes behind it: the product's kernel can write in that order. */
function reordered(
  result: Node,
  consumers: ReadonlyMap<Node, ReadonlySet<Node>>,
  isOutput: ReadonlySet<Node>,
  isTaken: (node: Node) => boolean,
): readonly Node[] {
  const chain: Node[] = [];
  let transpose: Node | undefined;
  for (let node = result; !isOutput.has(node); node = chain.at(-1)!) {
    const [next, ...others] = consumers.get(node)!;
    if (!next || others.length > 0 || isTaken(next)) break;
    if (next.op === "transpose" && !transpose) transpose = next;
    else if (next.op !== "reshape") break;
    chain.push(next);
  }
  const { permutation = [] } = transpose?.attributes ?? {};
  // Otherwise neighbours would be written apart.
  const keepsLast = permutation.at(-1) === permutation.length - 1;
  return transpose && (keepsLast || isOutput.has(chain.at(-1)!)) ? chain : [];
}

/** Whether the operands from inside the region have the node's own elements, none broadcast. */
const sameOrder = (node: Node, inside: ReadonlySet<Node>): boolean =>
  node.inputs.every((input) => !inside.has(input) || sizeOf(input.shape) === sizeOf(node.shape));
