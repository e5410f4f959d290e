import { sizeOf } from "../../core/host-tensor.js";
import { constantNodes, consumersOf, gpuBytes, reachable } from "../ir/graph.js";
import { isAnchor, isElementwise, isGemm, isGiven, isView, type AnchorNode, type Node } from "../ir/node.js";
import { literal } from "../kernels/literal.js";
import { viewOf } from "../kernels/view.js";
import type { PassLimits } from "./limits.js";

/** Which operations each kernel computes. */
export interface Fusion {
  /** In the order in which they are computed. Each is the last node of one kernel, and its result. */
  readonly roots: readonly Node[];
  /** By root, the GEMM or the operation on rows that the kernel is built around; none for elementwise kernels. */
  readonly anchors: ReadonlyMap<Node, AnchorNode>;
  /** Whether a node's elements are stored in memory for later kernels. */
  readonly isStored: (node: Node) => boolean;
}

/** How often a kernel that broadcasts elements may compute each again, at most: chosen. */
const REPEATS = 4;

/** Operations of an epilogue: chosen. */
const LONGEST = 32;

/** Buffers that an anchor reads of itself, at most. */
const OPERANDS = 2;

/**
 * Assigns operations to kernels. A GEMM, a convolution or an operation on rows takes as its epilogue the operations on its
 * elements whose result alone is needed later, and a transposition of it. Other operations are computed where they are read,
 * element by element, or stored where several kernels read them.
 *
 * Nothing larger than one binding is stored: the parts of a larger table are read in place.
 */
export function fuseEpilogues(outputs: readonly Node[], { maxBuffers, maxTensorBytes }: PassLimits): Fusion {
  const nodes = reachable(outputs);
  const consumers = consumersOf(nodes);
  const isOutput = new Set(outputs);
  const stored = new Set<Node>(
    nodes.filter((node) => (isGiven(node) && literal(node) === undefined) || isOutput.has(node)),
  );
  // Constant folding computes these once, so never in one kernel with others.
  const constant = constantNodes(nodes);
  const rootOf = new Map<Node, Node>();
  const anchors = new Map<Node, AnchorNode>();

  for (const anchor of [...nodes].reverse().filter(isAnchor)) {
    const isTaken = (node: Node): boolean =>
      rootOf.has(node) || isAnchor(node) || constant.has(node) !== constant.has(anchor);
    const epilogue = epilogueOf(anchor, consumers, isOutput, isTaken, maxBuffers - OPERANDS);
    const region = isGemm(anchor)
      ? [...epilogue, ...storedOrder(epilogue.at(-1)!, consumers, isOutput, isTaken)]
      : epilogue;
    const root = region.at(-1)!;
    for (const node of region) rootOf.set(node, root);
    anchors.set(root, anchor);
    stored.add(root);
  }

  const isStored = (node: Node): boolean => stored.has(node);
  // Filters, in the order in which convolutions read them.
  for (const { op, inputs } of nodes) {
    if (op === "convolution" || op === "convolutionInputGradient") stored.add(inputs[1]);
  }
  // From the last node to the first: the consumers of a node are visited before it.
  const users = new Map<Node, Set<Node>>();
  for (const node of [...nodes].reverse()) {
    const kernels = new Set<Node>();
    for (const consumer of consumers.get(node)!) {
      const root = rootOf.get(consumer) ?? (isStored(consumer) ? consumer : undefined);
      for (const kernel of root ? [root] : users.get(consumer)!) kernels.add(kernel);
    }
    users.set(node, kernels);
    const isReadByGemm = [...consumers.get(node)!].some(isGemm);
    if (rootOf.has(node) || isStored(node) || (isGiven(node) && !isReadByGemm)) continue;
    if (gpuBytes(node) > maxTensorBytes) continue;
    const isRepeated = [...consumers.get(node)!].some(
      (consumer) => consumer.op === "broadcast" || sizeOf(consumer.shape) >= REPEATS * sizeOf(node.shape),
    );
    const isFolded = constant.has(node) && [...consumers.get(node)!].some((consumer) => !constant.has(consumer));
    if (isReadByGemm ? viewSource(node) === node : !isView(node) && (kernels.size > 1 || isRepeated || isFolded))
      stored.add(node);
  }
  // A GEMM's operand may be a view of something that is not stored.
  for (const node of nodes.filter(isGemm)) for (const input of node.inputs) stored.add(viewSource(input));
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
            !isStored(input) && !rootOf.has(input) && buffers.get(input)!.size > 1 && gpuBytes(input) <= maxTensorBytes,
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

/** The anchor and its epilogue, up to the last node that is all that later kernels need of them. */
function epilogueOf(
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

/** A transposition that alone reads a GEMM's result, and reshapes behind it: the kernel stores its result in that order. */
function storedOrder(
  result: Node,
  consumers: ReadonlyMap<Node, ReadonlySet<Node>>,
  isOutput: ReadonlySet<Node>,
  isTaken: (node: Node) => boolean,
): readonly Node[] {
  const chain: Node[] = [];
  let permutation: readonly number[] | undefined;
  for (let node = result; !isOutput.has(node); node = chain.at(-1)!) {
    const [next, ...others] = consumers.get(node)!;
    if (!next || others.length > 0 || isTaken(next)) break;
    if (next.op === "transpose" && !permutation) permutation = next.attributes.permutation;
    else if (next.op !== "reshape") break;
    chain.push(next);
  }
  if (!permutation) return [];
  // Otherwise neighbours would be written to distant addresses.
  const keepsLast = permutation.at(-1) === permutation.length - 1;
  return keepsLast || isOutput.has(chain.at(-1)!) ? chain : [];
}

/** Whether the operands from inside the region have the node's own elements, none broadcast. */
const sameOrder = (node: Node, inside: ReadonlySet<Node>): boolean =>
  node.inputs.every((input) => !inside.has(input) || sizeOf(input.shape) === sizeOf(node.shape));
