import { reachable, type Outputs } from "./graph.js";
import type { Node } from "./node.js";

/**
 * A kernel graph as text, a line for each node, to read after a pass:
 *
 *     %4 = convolution(%0, %3) {"stride":1,"padding":[1,1,1,1],"layout":"NHWC","upsample":1} float32 [1, 16, 16, 64]
 */
export function printGraph(outputs: Outputs): string {
  const names = new Map(Object.entries(outputs).map(([name, node]) => [node, name]));
  const line = (node: Node): string => {
    const { id, op, inputs, dtype, shape } = node;
    const attributes = Object.entries(node.attributes).filter(([key]) => key !== "shape" && key !== "dtype");
    const shown = attributes.length > 0 ? ` ${JSON.stringify(Object.fromEntries(attributes))}` : "";
    const name = names.get(node);
    const result = name === undefined ? "" : ` -> ${name}`;
    return `%${id} = ${op}(${inputs.map((input) => `%${input.id}`).join(", ")})${shown} ${dtype} [${shape.join(", ")}]${result}`;
  };
  return reachable(Object.values(outputs)).map(line).join("\n");
}
