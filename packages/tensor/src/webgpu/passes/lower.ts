import { SdxsError } from "../../core/errors.js";
import { reachable, type Node as SharedNode } from "../../graph/node.js";
import { KernelGraph, type Outputs } from "../ir/graph.js";
import type { Node } from "../ir/node.js";

/**
 * Lowers the recorded program to the kernel graph's operations. Operations that only control differentiation are removed, and
 * filters of convolutions are transposed to the order in which kernels read them.
 */
export function lower(outputs: Readonly<Record<string, SharedNode>>): Outputs {
  const graph = new KernelGraph();
  const lowered = new Map<SharedNode, Node>();
  for (const node of reachable(Object.values(outputs))) {
    const inputs = node.inputs.map((input) => lowered.get(input)!);
    lowered.set(node, lowerNode(graph, node, inputs));
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, node]) => [name, lowered.get(node)!]));
}

function lowerNode(graph: KernelGraph, node: SharedNode, inputs: readonly Node[]): Node {
  const [a, b, c] = inputs as [Node, Node, Node | undefined];
  switch (node.op) {
    case "input":
      return graph.add("input", [], { ...node.attributes, begin: 0 });
    case "constant":
      return graph.add("constant", [], node.attributes, node.data);
    case "neg":
    case "abs":
    case "sign":
    case "exp":
    case "log":
    case "sqrt":
    case "sin":
    case "cos":
    case "tanh":
    case "sigmoid":
    case "relu":
    case "erf":
    case "floor":
    case "add":
    case "sub":
    case "mul":
    case "div":
    case "maximum":
    case "minimum":
    case "equal":
    case "greater":
    case "less":
    case "where":
      return graph.map(node.op, a, ...inputs.slice(1));
    case "pow":
      return graph.add("power", [a], node.attributes);
    case "cast":
      return graph.add("cast", [a], node.attributes);
    case "stopGradient":
    case "variable":
      return a;

    case "matmul":
      return graph.gemm(a, b, node.attributes);
    case "conv2d": {
      const filters = graph.transpose(b, [0, 2, 3, 1]);
      const convolution = { ...node.attributes, layout: "NCHW", upsample: 1 } as const;
      return graph.add("convolution", c ? [a, filters, c] : [a, filters], convolution);
    }
    case "conv2dInputGrad":
      return graph.add("convolutionInputGradient", [a, graph.transpose(b, [1, 2, 3, 0])], node.attributes);
    case "conv2dWeightGrad":
      return graph.add("convolutionFilterGradient", [a, b], node.attributes);

    case "sum":
    case "mean":
    case "max":
      return graph.add("reduction", [a], { function: node.op, ...node.attributes });
    case "argMax":
      return graph.add("reduction", [a], { function: node.op, axes: [node.attributes.axis], keepDims: false });
    case "softmax":
      return graph.add("softmax", [a], { axes: [node.attributes.axis] });
    case "normalize":
      return graph.add("normalize", [a], { axes: [node.shape.length - 1], epsilon: node.attributes.epsilon });
    case "inverseStd": {
      // Of what was normalized.
      if (a.op !== "normalize") throw new SdxsError("BACKEND_FAILURE", `webgpu: inverseStd of "${a.op}".`);
      return graph.add("inverseStd", [a.inputs[0]], a.attributes);
    }

    case "reshape":
      return graph.reshape(a, node.shape);
    case "transpose":
      return graph.transpose(a, node.attributes.permutation);
    case "broadcastTo":
      return graph.add("broadcast", [a], node.attributes);
    case "slice":
      return graph.slice(a, node.attributes.axis, node.attributes.begin, node.attributes.size);
    case "concat":
      return graph.concat(inputs, node.attributes.axis, Infinity);
    case "pad":
      return graph.add("pad", [a], node.attributes);
    case "gather":
      return graph.add("gather", [a, b], node.attributes);
    case "resizeNearest":
      return graph.add("resizeNearest", [a], { ...node.attributes, layout: "NCHW" });
    case "avgPool2d":
      return graph.add("pool", [a], { function: "average", ...node.attributes });
    case "maxPool2d":
      return graph.add("pool", [a], { function: "max", ...node.attributes });
  }
}
