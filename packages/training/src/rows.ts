import { HostTensor, sizeOf, type DType, type HostData, type Shape } from "@sdxs/tensor";

/**
 * The entries of `tensor` at the given indices of its first axis, copied: a batch out of a data set.
 *
 * @returns [rows.length, ...], of the same element type.
 *
 * @example
 * const batch = takeRows(latents, random(seed, "rows", step).integers([16], 0, latents.shape[0]).data);
 */
export function takeRows(tensor: HostTensor, rows: ArrayLike<number>): HostTensor {
  const { shape, data, dtype } = tensor;
  const width = sizeOf(shape.slice(1));
  const taken = emptyTensor([rows.length, ...shape.slice(1)], dtype);
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i] ?? 0;
    taken.data.set(data.subarray(row * width, (row + 1) * width), i * width);
  }
  return taken;
}

/** Zeros of any element type. */
export function emptyTensor(shape: Shape, dtype: DType): HostTensor {
  return new HostTensor(shape, emptyData(sizeOf(shape), dtype));
}

function emptyData(size: number, dtype: DType): HostData {
  if (dtype === "float32") return new Float32Array(size);
  return dtype === "int32" ? new Int32Array(size) : new Uint8Array(size);
}
