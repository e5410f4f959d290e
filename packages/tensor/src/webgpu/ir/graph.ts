import { sizeOf, type HostData, type Shape } from "../../core/host-tensor.js";
import { sameShape } from "../../core/shapes.js";
import { inferType } from "./infer.js";
import type { ElementwiseName } from "../../graph/elementwise.js";
import type { Attributes, Node, NodeOf, Operands, Operation } from "./node.js";

/** A program's results in the kernel graph, by name. */
export type Outputs = Readonly<Record<string, Node>>;

/** Builds a kernel graph. Equal nodes are one; views that change nothing are their operands. */
export class KernelGraph {
  private readonly known = new Map<string, Node>();

  /** @throws ShapeError where the operands do not fit the operation */
  add<Op extends Operation>(op: Op, inputs: Operands[Op], attributes: Attributes[Op], data?: HostData): Node {
    const key = `${op}|${inputs.map(({ id }) => id).join()}|${JSON.stringify(attributes)}`;
    const existing = this.known.get(key);
    if (existing) return existing;
    const { shape, dtype } = inferType(op, inputs, attributes);
    const node = { id: this.known.size, op, inputs, attributes, shape, dtype, data } as NodeOf<Operation> as Node;
    this.known.set(key, node);
    return node;
  }

  /** A node of another graph, of operands in this one. */
  copy({ op, attributes, data }: Node, inputs: readonly Node[]): Node {
    return this.add(op, inputs as never, attributes, data);
  }

  map(name: ElementwiseName, ...inputs: readonly [Node, ...Node[]]): Node {
    return this.add("map", inputs, { function: name });
  }

  gemm(a: Node, b: Node, { transposeA = false, transposeB = false } = {}): Node {
    return this.add("gemm", [a, b], { transposeA, transposeB });
  }

  reshape(x: Node, shape: Shape): Node {
    if (sameShape(shape, x.shape)) return x;
    if (x.op === "reshape") return this.reshape(x.inputs[0], shape);
    return this.add("reshape", [x], { shape });
  }

  transpose(x: Node, permutation: readonly number[]): Node {
    if (permutation.every((axis, i) => axis === i)) return x;
    // Where only axes of size 1 move past others, the memory layout is the same.
    const moving = permutation.filter((axis) => x.shape[axis] !== 1);
    if (moving.every((axis, i) => i === 0 || axis > moving[i - 1]!)) {
      return this.reshape(
        x,
        permutation.map((axis) => x.shape[axis]!),
      );
    }
    return this.add("transpose", [x], { permutation });
  }

  slice(x: Node, axis: number, begin: number, size: number): Node {
    return size === x.shape[axis] ? x : this.add("slice", [x], { axis, begin, size });
  }

  /** Concatenates tensors, at most `most` of them at a time: a kernel reads few buffers. */
  concat(parts: readonly Node[], axis: number, most: number): Node {
    const [first, ...others] = parts as readonly [Node, ...Node[]];
    if (others.length === 0) return first;
    if (parts.length <= most) return this.add("concat", [first, ...others], { axis });
    const joined = Array.from({ length: Math.ceil(parts.length / most) }, (_, i) =>
      this.concat(parts.slice(i * most, (i + 1) * most), axis, most),
    );
    return this.concat(joined, axis, most);
  }
}

/** Bytes on a GPU, where every element type, booleans included, takes four. */
export const gpuBytes = ({ shape }: Pick<Node, "shape">): number => 4 * sizeOf(shape);

/** Everything that the outputs depend on, each node after its operands. */
export function reachable(outputs: readonly Node[]): readonly Node[] {
  const found = new Set(outputs);
  for (const node of found) for (const input of node.inputs) found.add(input); // a Set's iteration includes elements added meanwhile
  return [...found].sort((a, b) => a.id - b.id);
}

/** The nodes that depend on constants alone. Operands come before results in `nodes`. */
export function constantNodes(nodes: readonly Node[]): ReadonlySet<Node> {
  const constant = new Set<Node>();
  for (const node of nodes) {
    if (node.op !== "input" && node.inputs.every((input) => constant.has(input))) constant.add(node);
  }
  return constant;
}

/** By node, those that read it. */
export function consumersOf(nodes: readonly Node[]): ReadonlyMap<Node, ReadonlySet<Node>> {
  const consumers = new Map<Node, Set<Node>>(nodes.map((node) => [node, new Set()]));
  for (const node of nodes) for (const input of node.inputs) consumers.get(input)!.add(node);
  return consumers;
}
