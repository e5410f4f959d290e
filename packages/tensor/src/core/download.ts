import type { HostTensor } from "./host-tensor.js";
import type { Backend } from "./program.js";

/** Copies of named device tensors in host memory; the device keeps its own. */
export async function downloadAll<D, Name extends string>(
  backend: Pick<Backend<D>, "download">,
  tensors: Readonly<Record<Name, D>>,
): Promise<Record<Name, HostTensor>> {
  const host: [string, HostTensor][] = [];
  for (const [name, tensor] of Object.entries<D>(tensors)) host.push([name, await backend.download(tensor)]);
  return Object.fromEntries(host) as Record<Name, HostTensor>;
}
