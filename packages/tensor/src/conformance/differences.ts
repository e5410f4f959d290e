import { sizeOf } from "../core/host-tensor.js";
import type { Ops, TensorMap } from "../core/ops.js";
import { referenceOps } from "../reference/ops.js";
import type { ReferenceTensor } from "../reference/tensor.js";
import { mapTensors } from "../core/parameters.js";

/**
 * Distance of the points of a difference in each variable. Chosen: the truncation error of the five-point
 * formula, of order 1e-12, and the rounding error of float64 over it, 1e-13, are about equal.
 */
const STEP = 1e-3;

/**
 * The derivative of a function of one element of a tensor by the five-point formula
 * (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12h.
 */
export function differentiate(x: ReferenceTensor, element: number, f: (x: ReferenceTensor) => number): number {
  const moved = (distance: number): number => {
    const data = x.data.slice();
    data[element] = (data[element] as number) + distance;
    return f({ ...x, data });
  };
  return (moved(-2 * STEP) - 8 * moved(-STEP) + 8 * moved(STEP) - moved(2 * STEP)) / (12 * STEP);
}

/** The reference with gradients by differences. They may be nested, and see through `stopGradient`. */
export const differenceOps: Ops<ReferenceTensor> = {
  ...referenceOps,
  valueAndGrad(f, params) {
    const grads: TensorMap<ReferenceTensor> = mapTensors(params, (param, name) => ({
      ...param,
      data: Float64Array.from({ length: sizeOf(param.shape) }, (_, element) =>
        differentiate(param, element, (moved) => f({ ...params, [name]: moved }).loss.data[0] as number),
      ),
    }));
    return { ...f(params), grads };
  },
};
