import { describe, expect, it } from "vitest";
import { KernelGraph } from "./graph.js";
import type { Node } from "./node.js";
import { printGraph } from "./print.js";
import { verify } from "./verify.js";

const image = { name: "image", shape: [1, 3, 8, 8], dtype: "float32", begin: 0 } as const;
const filters = { name: "filters", shape: [4, 3, 3, 3], dtype: "float32", begin: 0 } as const;

function convolution(): Node {
  const graph = new KernelGraph();
  const read = graph.transpose(graph.add("input", [], filters), [0, 2, 3, 1]);
  return graph.add("convolution", [graph.add("input", [], image), read], {
    stride: 1,
    padding: [1, 1, 1, 1],
    layout: "NCHW",
    upsample: 1,
  });
}

describe("the kernel graph", () => {
  it("refuses operands that do not fit where the node is made", () => {
    const graph = new KernelGraph();
    const [a, b] = [graph.add("input", [], image), graph.add("input", [], filters)];
    expect(() => graph.gemm(a, b)).toThrow(expect.objectContaining({ code: "SHAPE_MISMATCH" }));
    expect(() => graph.reshape(a, [7])).toThrow(expect.objectContaining({ code: "SHAPE_MISMATCH" }));
  });

  it("accepts what passes leave, and names the pass and the node of what they broke", () => {
    const good = convolution();
    expect(() => verify("pass", { good }, [])).not.toThrow();
    const wrongShape: Node = { ...good, shape: [1, 4, 8, 9] };
    expect(() => verify("nhwcLayout", { wrongShape }, [])).toThrow(
      `after the pass "nhwcLayout", node ${good.id} (convolution) is float32 [1, 4, 8, 9], its operands give float32 [1, 4, 8, 8]`,
    );
    const early: Node = { ...good, id: 0 };
    expect(() => verify("nhwcLayout", { early }, [])).toThrow(
      'after the pass "nhwcLayout", node 0 (convolution) reads node',
    );
    expect(() => verify("last", { good }, [({ op }) => (op === "convolution" ? "is there" : undefined)])).toThrow(
      "(convolution) is there",
    );
  });

  it("prints a line for each node", () => {
    expect(printGraph({ y: convolution() }).split("\n")).toEqual([
      '%0 = input() {"name":"filters","begin":0} float32 [4, 3, 3, 3]',
      '%1 = transpose(%0) {"permutation":[0,2,3,1]} float32 [4, 3, 3, 3]',
      '%2 = input() {"name":"image","begin":0} float32 [1, 3, 8, 8]',
      '%3 = convolution(%2, %1) {"stride":1,"padding":[1,1,1,1],"layout":"NCHW","upsample":1} float32 [1, 4, 8, 8] -> y',
    ]);
  });
});
