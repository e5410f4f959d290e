import { isScratch, type Kernel, type Scratch } from "../kernels/kernel.js";
import type { Node } from "../ir/node.js";

/** The kernels that run once, when the program is compiled. */
export interface Folding {
  /** The kernels that read constants and results of each other alone. */
  readonly kernels: ReadonlySet<Kernel>;
  /** Whether a value is a constant or the result of such a kernel. */
  readonly isConstant: (value: Node | Scratch) => boolean;
}

/**
 * Constant folding: kernels that depend on constants alone run once. Those that write a result of the program run each time,
 * since the caller owns it.
 *
 * @param kernels in the order in which they are computed
 */
export function foldConstants(kernels: readonly Kernel[], outputs: ReadonlySet<Node | Scratch>): Folding {
  const results = new Set<Node | Scratch>();
  const isConstant = (value: Node | Scratch): boolean =>
    results.has(value) || (!isScratch(value) && value.op === "constant");
  const folded = new Set<Kernel>();
  for (const kernel of kernels) {
    if (!kernel.reads.every(isConstant) || outputs.has(kernel.result)) continue;
    folded.add(kernel);
    results.add(kernel.result);
  }
  return { kernels: folded, isConstant };
}
