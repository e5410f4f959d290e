import { SdxsError } from "../../core/errors.js";
import { sizeOf } from "../../core/host-tensor.js";
import { show } from "../../core/shapes.js";
import { gpuBytes, KernelGraph, reachable, type Outputs } from "../ir/graph.js";
import { isGiven, isView, type GivenNode, type Node } from "../ir/node.js";
import { ALIGNMENT, type PassLimits } from "./limits.js";

/**
 * Splits parameters, inputs and constants that are too large for one binding along their first axis, as a table of tokens on a
 * device with WebGPU's default limits: rows are gathered from the parts, and GEMMs and convolutions compute their columns and
 * channels part by part.
 *
 * Afterwards no kernel stores a tensor of more than `maxTensorBytes`.
 *
 * @throws SdxsError with code BACKEND_FAILURE for large tensors that are read in another way, and for results that are too large
 */
export function splitLargeTensors(outputs: Outputs, limits: PassLimits): Outputs {
  const nodes = reachable(Object.values(outputs));
  const isLarge = (node: Node): boolean => gpuBytes(node) > limits.maxTensorBytes;
  if (!nodes.some(isLarge)) return outputs;

  const graph = new KernelGraph();
  const wholes = new Map<Node, Node>();
  const parts = new Map<Node, readonly Node[]>();
  const whole = (node: Node): Node => {
    const known = wholes.get(node) ?? graph.copy(node, node.inputs.map(whole));
    wholes.set(node, known);
    return known;
  };
  for (const node of nodes) {
    if (isLarge(node)) parts.set(node, partsOf(node));
    else if (!node.inputs.some((input) => parts.has(input))) whole(node);
    else wholes.set(node, ofParts(node));
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, node]) => [name, whole(node)]));

  /** A large tensor itself. */
  function partsOf(node: Node): readonly Node[] {
    if (isGiven(node)) return givenParts(graph, node, limits);
    const [source] = node.inputs;
    // Filters in the order in which they are read: their first axis stays.
    const keepsRows =
      (node.op === "transpose" && node.attributes.permutation[0] === 0) ||
      (node.op === "reshape" && source.shape[0] === node.shape[0]);
    const given = keepsRows ? parts.get(source) : undefined;
    if (!given) throw tooLarge(`${node.op}:`, node, limits.maxTensorBytes, "Use a smaller batch or image.");
    return given.map((part) =>
      node.op === "transpose"
        ? graph.transpose(part, node.attributes.permutation)
        : graph.reshape(part, [part.shape[0]!, ...node.shape.slice(1)]),
    );
  }

  /** What reads one. */
  function ofParts(node: Node): Node {
    if (node.op === "gather" && node.attributes.axis === 0 && !parts.has(node.inputs[1])) {
      const [table, indices] = node.inputs;
      return graph.add("gather", [graph.concat(parts.get(table)!, 0, Infinity), whole(indices)], node.attributes);
    }
    if (node.op === "gemm" && node.attributes.transposeB && !parts.has(node.inputs[0])) {
      const [a, b] = node.inputs;
      const products =
        b.shape.length === 2 ? parts.get(b)!.map((part) => graph.gemm(whole(a), part, node.attributes)) : [];
      if (products.length > 0) return graph.concat(products, node.shape.length - 1, Infinity);
    }
    if (node.op === "convolution" && !parts.has(node.inputs[0])) {
      const [image, filters, bias] = node.inputs;
      let begin = 0;
      const channels = parts.get(filters)!.map((part) => {
        const size = part.shape[0]!;
        const own = bias && graph.slice(whole(bias), 0, begin, size);
        begin += size;
        return graph.add("convolution", own ? [whole(image), part, own] : [whole(image), part], node.attributes);
      });
      return graph.concat(channels, 1, Infinity);
    }
    if (isView(node)) throw tooLarge(`${node.op}:`, node.inputs[0], limits.maxTensorBytes, MORE);
    const input = node.inputs.find((other) => parts.has(other))!;
    throw tooLarge(`"${node.op}" of`, input, limits.maxTensorBytes, MORE);
  }
}

const MORE = "Request a device with the adapter's limits by requestGpuDevice, or choose another backend.";

function givenParts(
  graph: KernelGraph,
  node: GivenNode,
  { maxTensorBytes, maxBufferBytes }: PassLimits,
): readonly Node[] {
  const { shape } = node;
  const [rows = 1, ...rest] = shape;
  const what = node.op === "input" ? `"${node.attributes.name}":` : "constant:";
  if (node.op === "input" && gpuBytes(node) > maxBufferBytes) throw tooLarge(what, node, maxBufferBytes, MORE);
  const inner = sizeOf(rest);
  // Parts of one buffer begin where a binding may; those of a constant have buffers of their own.
  const aligned = node.op === "constant" ? 1 : ALIGNMENT / greatestCommonDivisor(4 * inner, ALIGNMENT);
  const most = Math.floor(maxTensorBytes / (4 * inner * aligned)) * aligned;
  if (most === 0 || shape.length === 0) throw tooLarge(what, node, maxTensorBytes, MORE);
  return Array.from({ length: Math.ceil(rows / most) }, (_, i) => {
    const begin = i * most * inner;
    const partShape = [Math.min(most, rows - i * most), ...rest];
    if (node.op === "input") return graph.add("input", [], { ...node.attributes, shape: partShape, begin });
    const key = `${node.attributes.key} from ${begin}`;
    const data = node.data.subarray(begin, begin + sizeOf(partShape));
    return graph.add("constant", [], { ...node.attributes, key, shape: partShape }, data);
  });
}

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b));

function tooLarge(what: string, node: Node, most: number, advice: string): SdxsError {
  return new SdxsError(
    "BACKEND_FAILURE",
    `${what} a tensor of shape ${show(node.shape)} takes ${gpuBytes(node)} bytes, more than this device's limit of ${most}. ${advice}`,
  );
}
