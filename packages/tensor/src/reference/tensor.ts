import { HostTensor, sizeOf, type DType, type Shape } from "../core/host-tensor.js";

/** A tensor of the reference: row-major numbers in double precision. Booleans are 0 and 1. */
export interface ReferenceTensor {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly data: Float64Array;
}

/** Exact: every float32, int32 and bool is a float64. */
export function fromHost(tensor: HostTensor): ReferenceTensor {
  return { shape: tensor.shape, dtype: tensor.dtype, data: Float64Array.from(tensor.data) };
}

/** Rounds to the tensor's element type. */
export function toHost({ shape, dtype, data }: ReferenceTensor): HostTensor {
  if (dtype === "float32") return new HostTensor(shape, Float32Array.from(data));
  return new HostTensor(shape, dtype === "int32" ? Int32Array.from(data) : Uint8Array.from(data));
}

/** The tensor whose element at each index is `value(index)`. */
export function tabulate(shape: Shape, dtype: DType, value: (index: readonly number[]) => number): ReferenceTensor {
  const data = new Float64Array(sizeOf(shape));
  const index = shape.map(() => 0);
  for (let i = 0; i < data.length; i++) {
    data[i] = value(index);
    // Count up, the last axis fastest.
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      index[axis] = 0;
    }
  }
  return { shape, dtype, data };
}

/** The element at an index. */
export function at(x: ReferenceTensor, index: readonly number[]): number {
  let offset = 0;
  for (let axis = 0; axis < x.shape.length; axis++) {
    offset = offset * (x.shape[axis] as number) + (index[axis] as number);
  }
  return x.data[offset] as number;
}

/** The element that a broadcast of `x` has at an index of the broadcast shape. */
export function broadcastAt(x: ReferenceTensor, index: readonly number[]): number {
  const extra = index.length - x.shape.length;
  let offset = 0;
  for (let axis = 0; axis < x.shape.length; axis++) {
    const size = x.shape[axis] as number;
    offset = offset * size + (size === 1 ? 0 : (index[extra + axis] as number));
  }
  return x.data[offset] as number;
}
