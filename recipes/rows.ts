import { HostTensor, downloadAll, type Backend, type HostParams, type Program, type TensorSpec } from "@sdxs/tensor";
import { takeRows } from "@sdxs/training";

/** Runs a program over many samples, a fixed batch at a time; the last batch is filled up by repeating the last sample. */
export async function mapBatches<D, In extends string, Out extends string>(
  backend: Backend<D>,
  program: Program<In, Out>,
  frozen: HostParams,
  inputs: Readonly<Record<In, HostTensor>>,
  batch: number,
  options: { readonly signal?: AbortSignal; readonly onBatch?: (done: number) => void } = {},
): Promise<Record<Out, HostTensor>> {
  const entries = Object.entries<HostTensor>(inputs);
  const total = rowCount(entries[0]?.[1]);
  const specs = Object.fromEntries(
    entries.map(([name, { shape, dtype }]): [string, TensorSpec] => [
      name,
      { shape: [batch, ...shape.slice(1)], dtype },
    ]),
  ) as Record<In, TensorSpec>;
  const compiled = await backend.compile(program, { frozen, inputs: specs });
  const results: Record<string, HostTensor[]> = {};
  try {
    for (let first = 0; first < total; first += batch) {
      options.signal?.throwIfAborted();
      const rows = Array.from({ length: batch }, (_, i) => Math.min(first + i, total - 1));
      const feeds = Object.fromEntries(entries.map(([name, tensor]) => [name, takeRows(tensor, rows)]));
      const outputs = await takeOutputs(backend, await compiled.run({}, feeds as Record<In, HostTensor>));
      for (const [name, tensor] of Object.entries<HostTensor>(outputs)) (results[name] ??= []).push(tensor);
      options.onBatch?.(Math.min(first + batch, total));
    }
  } finally {
    await compiled.dispose();
  }
  return Object.fromEntries(
    Object.entries(results).map(([name, pieces]) => [name, firstRows(concatRows(pieces), total)]),
  ) as Record<Out, HostTensor>;
}

/** A program's outputs in host memory; those on the device are disposed, which a GPU's need. */
export async function takeOutputs<D, Out extends string>(
  backend: Backend<D>,
  outputs: Readonly<Record<Out, D>>,
): Promise<Record<Out, HostTensor>> {
  const host = await downloadAll(backend, outputs);
  for (const tensor of Object.values<D>(outputs)) backend.dispose(tensor);
  return host;
}

/** Entries along the first axis. */
export function rowCount(tensor: HostTensor | undefined): number {
  return tensor?.shape[0] ?? 0;
}

/** The first `count` entries along the first axis, copied. */
export function firstRows(tensor: HostTensor, count: number): HostTensor {
  return takeRows(
    tensor,
    Array.from({ length: count }, (_, row) => row),
  );
}

/** float32 tensors one after the other along the first axis. */
export function concatRows(tensors: readonly HostTensor[]): HostTensor {
  const data = new Float32Array(tensors.reduce((sum, tensor) => sum + tensor.data.length, 0));
  let offset = 0;
  for (const tensor of tensors) {
    data.set(tensor.data, offset);
    offset += tensor.data.length;
  }
  const rows = tensors.reduce((sum, tensor) => sum + rowCount(tensor), 0);
  return new HostTensor([rows, ...(tensors[0]?.shape.slice(1) ?? [])], data);
}
