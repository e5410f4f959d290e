import { SdxsError } from "../../core/errors.js";
import { reachable, type Outputs } from "./graph.js";
import { typeProblem } from "./infer.js";
import type { Node } from "./node.js";

/** A condition on each node after a pass: gives the violation, or undefined. */
export type Invariant = (node: Node) => string | undefined;

/**
 * Refuses a kernel graph that a pass has broken: each node's type is what its operands give, operands come before results, and
 * the pass's own invariants hold.
 *
 * @throws SdxsError with code BACKEND_FAILURE, which names the pass and the node
 */
export function verify(pass: string, outputs: Outputs, invariants: readonly Invariant[]): void {
  for (const node of reachable(Object.values(outputs))) {
    const late = node.inputs.find(({ id }) => id >= node.id);
    const order = late && `reads node ${late.id}, which comes later`;
    const reasons = [typeProblem(node), order, ...invariants.map((invariant) => invariant(node))];
    const broken = reasons.find((reason) => reason !== undefined);
    if (broken !== undefined) {
      throw new SdxsError(
        "BACKEND_FAILURE",
        `webgpu: after the pass "${pass}", node ${node.id} (${node.op}) ${broken}.`,
      );
    }
  }
}
