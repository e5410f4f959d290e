import { createHash } from "node:crypto";
import type { HostTensor, TensorMap } from "@sdxs/tensor";

/** SHA-256 over a label and each tensor's name, type, shape and bytes. */
export function checksum(label: string, tensors: TensorMap<HostTensor>): string {
  const hash = createHash("sha256").update(`${label}\n`);
  for (const name of Object.keys(tensors).sort()) {
    const { dtype, shape, data } = tensors[name] as HostTensor; // its key comes from the record itself
    hash.update(`${JSON.stringify(name)} ${dtype} [${shape.join(", ")}]\n`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest("hex");
}
