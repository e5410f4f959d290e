import type { Ops } from "../core/ops.js";
import type { Node } from "./node.js";

/** Operations of the recorded graph beyond `Ops`, for gradient rules. */
export interface GraphOps extends Ops<Node> {
  conv2dInputGrad(
    gradient: Node,
    weight: Node,
    like: Node,
    stride: number,
    padding: readonly [number, number, number, number],
  ): Node;
  conv2dWeightGrad(
    x: Node,
    gradient: Node,
    like: Node,
    stride: number,
    padding: readonly [number, number, number, number],
  ): Node;
  /** (x - mean) / sqrt(variance + epsilon) over the last axis. */
  normalize(x: Node, epsilon: number): Node;
  /** 1 / sqrt(variance + epsilon) of a `normalize` node, last axis 1. */
  inverseStd(normalized: Node): Node;
  zerosLike(x: Node): Node;
}
