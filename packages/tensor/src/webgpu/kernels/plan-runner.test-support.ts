import { HostTensor, sizeOf } from "../../core/host-tensor.js";
import type { TensorMap } from "../../core/ops.js";
import { encodeFloat16 } from "../../weights/half.js";
import type { Plan, Slot, Step } from "../passes/reuse-buffers.js";
import { runKernel } from "./wgsl-interpreter.test-support.js";

/** Runs a compiled program's kernels in the interpreter. What no kernel has written is NaN. */
export function runPlan(plan: Plan, given: TensorMap<HostTensor>): Record<string, HostTensor> {
  const memory = new Map<Slot, ArrayBuffer>();
  const empty = (bytes: number): ArrayBuffer => new Uint8Array(bytes).fill(0xff).buffer;
  for (const [slot, bytes] of plan.slotBytes) memory.set(slot, empty(bytes));
  for (const { slot, node, storage } of plan.constants) {
    const data = storage === "f16" ? encodeFloat16(node.data as Float32Array) : node.data;
    const words = data instanceof Uint8Array ? Uint32Array.from(data) : data;
    new Uint8Array(memory.get(slot)!).set(new Uint8Array(words.buffer, words.byteOffset, words.byteLength));
  }
  for (const [name, slots] of plan.given) {
    const { data } = given[name]!;
    for (const { slot, offset, bytes } of slots) {
      memory.set(slot, data.slice().buffer.slice(offset, offset + bytes));
    }
  }
  for (const { slot, node } of plan.results.values()) {
    if (!memory.has(slot)) memory.set(slot, empty(4 * sizeOf(node.shape)));
  }
  const run = ({ code, groups, slots }: Step): void =>
    runKernel(
      code,
      groups,
      slots.map((slot) => memory.get(slot)!),
    );
  [...plan.preparation, ...plan.steps].forEach(run);
  return Object.fromEntries(
    [...plan.results].map(([name, { slot, node }]) => [
      name,
      new HostTensor(node.shape, new Float32Array(memory.get(slot)!, 0, sizeOf(node.shape))),
    ]),
  );
}
