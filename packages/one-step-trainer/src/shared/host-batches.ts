import { HostTensor, sizeOf } from "@sdxs/tensor";

/** Tensors of one shape as the entries of a new first axis. */
export function stack(tensors: readonly HostTensor[]): HostTensor {
  const shape = tensors[0]?.shape ?? [];
  const size = sizeOf(shape);
  const data = new Float32Array(tensors.length * size);
  tensors.forEach((tensor, i) => data.set(tensor.data, i * size));
  return new HostTensor([tensors.length, ...shape], data);
}

/** Two tensors of one shape, one after the other along the first axis. */
export function concatenate(a: HostTensor, b: HostTensor): HostTensor {
  const [batch = 0, ...rest] = a.shape;
  const data = new Float32Array(2 * a.data.length);
  data.set(a.data);
  data.set(b.data, a.data.length);
  return new HostTensor([2 * batch, ...rest], data);
}

/** The two halves along the first axis. */
export function halves(tensor: HostTensor): readonly [HostTensor, HostTensor] {
  const [batch = 0, ...rest] = tensor.shape;
  const middle = tensor.data.length / 2;
  const shape = [batch / 2, ...rest];
  return [
    HostTensor.from(shape, tensor.data.subarray(0, middle)),
    HostTensor.from(shape, tensor.data.subarray(middle)),
  ];
}
