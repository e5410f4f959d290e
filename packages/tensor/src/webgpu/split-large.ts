import { SdxsError } from "../core/errors.js";
import { GraphBuilder } from "../graph/builder.js";
import { reachable, type Node } from "../graph/node.js";
import { show } from "../core/shapes.js";
import { sizeOf } from "../core/host-tensor.js";
import { isGiven } from "./kinds.js";

/** WebGPU's limit for where a binding begins in its buffer, on any device. */
export const ALIGNMENT = 256;

export interface SizeLimits {
  /** That a kernel can be given in one binding. */
  readonly maxTensorBytes: number;
  readonly maxBufferBytes: number;
}

/** On a GPU, where booleans take four bytes, too. */
export const gpuBytes = ({ shape }: Pick<Node, "shape">): number => 4 * sizeOf(shape);

/**
 * The same graph with parameters, inputs and constants that are too large for one binding in parts along their first axis, as a
 * table of tokens is on a device with WebGPU's default limits: rows are gathered from the parts, and layers and convolutions give
 * their outputs part by part.
 *
 * @throws SdxsError with code BACKEND_FAILURE for what is read in another way, and for results that are too large.
 */
export function splitLarge(
  outputs: Readonly<Record<string, Node>>,
  limits: SizeLimits,
): Readonly<Record<string, Node>> {
  const nodes = reachable(Object.values(outputs));
  const isLarge = (node: Node): boolean => gpuBytes(node) > limits.maxTensorBytes;
  const large = nodes.find((node) => isLarge(node) && !isGiven(node) && !isSame(node));
  if (large !== undefined)
    throw tooLarge(`${large.op}:`, large, limits.maxTensorBytes, "Use a smaller batch or image.");
  if (!nodes.some(isLarge)) return outputs;

  const builder = new GraphBuilder();
  const { ops } = builder;
  const wholes = new Map<Node, Node>();
  const parts = new Map<Node, readonly Node[]>();
  const whole = (node: Node): Node => {
    const known = wholes.get(node) ?? builder.copy(node, node.inputs.map(whole));
    wholes.set(node, known);
    return known;
  };
  for (const node of nodes) {
    const [first, second, bias] = node.inputs as [Node, Node, Node | undefined];
    const { op, attributes } = node;
    if (isLarge(node)) parts.set(node, isGiven(node) ? partsOf(builder, node, limits) : parts.get(first)!);
    else if (!node.inputs.some((input) => parts.has(input))) whole(node);
    else if (op === "gather" && attributes.axis === 0 && !parts.has(second)) {
      wholes.set(node, ops.gather(ops.concat(parts.get(first)!, 0), whole(second), 0));
    } else if (op === "matmul" && !parts.has(first) && second.shape.length === 2 && attributes.transposeB) {
      const products = parts.get(second)!.map((part) => ops.matmul(whole(first), part, attributes));
      wholes.set(node, ops.concat(products, -1));
    } else if (op === "conv2d" && !parts.has(first)) {
      let begin = 0;
      const { stride = 1, padding = 0 } = attributes;
      const channels = parts.get(second)!.map((part) => {
        const size = part.shape[0]!;
        const own = bias && ops.slice(whole(bias), 0, begin, size);
        begin += size;
        return ops.conv2d(whole(first), part, own, { stride, padding });
      });
      wholes.set(node, ops.concat(channels, 1));
    } else {
      const input = node.inputs.find((other) => parts.has(other))!;
      throw tooLarge(`"${op}" of`, input, limits.maxTensorBytes, MORE);
    }
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, node]) => [name, whole(node)]));
}

/** What stands for its operand, as far as values go. */
const isSame = ({ op }: Node): boolean => op === "stopGradient" || op === "variable";

const MORE = "Ask for a device with all that the adapter has, by requestGpuDevice, or choose another backend.";

function partsOf(builder: GraphBuilder, node: Node, { maxTensorBytes, maxBufferBytes }: SizeLimits): readonly Node[] {
  const { op, shape, dtype, attributes, data } = node;
  const [rows = 1, ...rest] = shape;
  const what = op === "input" ? `"${attributes.name}":` : "constant:";
  if (op === "input" && gpuBytes(node) > maxBufferBytes) throw tooLarge(what, node, maxBufferBytes, MORE);
  const inner = sizeOf(rest);
  // Parts of one buffer begin where a binding may; those of a constant have buffers of their own.
  const aligned = data ? 1 : ALIGNMENT / greatestCommonDivisor(4 * inner, ALIGNMENT);
  const most = Math.floor(maxTensorBytes / (4 * inner * aligned)) * aligned;
  if (most === 0 || shape.length === 0) throw tooLarge(what, node, maxTensorBytes, MORE);
  return Array.from({ length: Math.ceil(rows / most) }, (_, i) => {
    const begin = i * most;
    const partShape = [Math.min(most, rows - begin), ...rest];
    if (data) return builder.constant(data.subarray(begin * inner, begin * inner + sizeOf(partShape)), partShape);
    return builder.add("input", [], { ...attributes, begin: begin * inner }, partShape, dtype);
  });
}

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b));

function tooLarge(what: string, node: Node, most: number, advice: string): SdxsError {
  return new SdxsError(
    "BACKEND_FAILURE",
    `${what} a tensor of shape ${show(node.shape)} takes ${gpuBytes(node)} bytes, more than this device's limit of ${most}. ${advice}`,
  );
}
