import { sizeOf } from "../../core/host-tensor.js";
import type { Node } from "../ir/node.js";
import { BUILTINS, gridOf, labelOf, workgroupNumber, type Kernel } from "./kernel.js";
import { Shader, type Surroundings } from "./shader.js";

const THREADS = 256;

/**
 * A kernel that computes the elements of its result independently of each other.
 *
 * @param each elements that a thread writes, by one call of `write` with the number of the first
 */
export function elementwiseKernel(
  root: Node,
  around: Surroundings,
  each: 1 | 4 = 1,
  write = (shader: Shader, index: string): void => shader.store(root, index),
): Kernel {
  const shader = new Shader(around);
  const size = sizeOf(root.shape);
  const index = shader.let(`(${workgroupNumber} * ${THREADS}u + thread)${each > 1 ? ` * ${each}u` : ""}`);
  shader.line(`if (${index} >= ${size}u) { return; }`);
  write(shader, index);
  return {
    code: shader.code(around.storage(root), THREADS, BUILTINS, { isQuad: each === 4 }),
    groups: gridOf(Math.ceil(size / THREADS / each)),
    reads: shader.reads,
    result: root,
    label: labelOf(root),
  };
}
