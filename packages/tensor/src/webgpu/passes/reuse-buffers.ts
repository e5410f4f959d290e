import { sizeOf } from "../../core/host-tensor.js";
import { gpuBytes, type Outputs } from "../ir/graph.js";
import { isGiven, type GivenNode, type Node, type NodeOf } from "../ir/node.js";
import { isScratch, type Kernel, type Scratch } from "../kernels/kernel.js";
import type { Storage } from "../kernels/shader.js";
import type { Folding } from "./fold-constants.js";

/** A piece of device memory. It may hold several values, one after the other. */
export type Slot = number;

export interface Step extends Omit<Kernel, "reads" | "result"> {
  /** The slots of the result and of what is read, in the order of the shader's bindings. */
  readonly slots: readonly Slot[];
}

/** Of an input or parameter, or of a part of it. */
export interface GivenSlot {
  readonly slot: Slot;
  /** Its offset in the given tensor, in bytes. */
  readonly offset: number;
  readonly bytes: number;
}

/** A compiled program's steps and slots. */
export interface Plan {
  /** Once, when the program is compiled: constant folding. */
  readonly preparation: readonly Step[];
  readonly steps: readonly Step[];
  /** Bytes of each slot that the program owns. */
  readonly slotBytes: ReadonlyMap<Slot, number>;
  /** Slots that hold constants when `preparation` begins. */
  readonly constants: readonly { readonly slot: Slot; readonly node: NodeOf<"constant">; readonly storage: Storage }[];
  /** Slots that only `preparation` needs. */
  readonly temporary: readonly Slot[];
  /** Where inputs and parameters are read, by name. */
  readonly given: ReadonlyMap<string, readonly GivenSlot[]>;
  /** By name, the slot where a result is written or, where that is something else as well, copied from. */
  readonly results: ReadonlyMap<string, { readonly slot: Slot; readonly copied: boolean; readonly node: Node }>;
}

const BYTES: Readonly<Record<Storage, number>> = { f32: 4, f16: 2, i32: 4, u32: 4 };

/** What a value takes in memory. */
export const bytesOf = (value: Node | Scratch, storage: (node: Node) => Storage): number =>
  isScratch(value) ? value.scratchBytes : Math.max(4, 4 * Math.ceil((sizeOf(value.shape) * BYTES[storage(value)]) / 4));

/**
 * Gives each value a slot of device memory, by liveness: a slot is free again after the last kernel that reads its value. Results
 * of the program are written to the caller's buffers; results of constant folding keep their memory.
 */
export function reuseBuffers(
  kernels: readonly Kernel[],
  outputs: Outputs,
  storage: (node: Node) => Storage,
  folding: Folding,
): Plan {
  const slotBytes = new Map<Slot, number>();
  const slots = new Map<Node | Scratch, Slot>();
  const given = new Map<string, GivenSlot[]>();
  const constants: { slot: Slot; node: NodeOf<"constant">; storage: Storage }[] = [];
  const results = new Map<string, { slot: Slot; copied: boolean; node: Node }>();
  let count = 0;
  const newSlot = (value: Node | Scratch, bytes?: number): Slot => {
    const slot = count++;
    slots.set(value, slot);
    if (bytes !== undefined) slotBytes.set(slot, bytes);
    return slot;
  };
  const slotOfGiven = (node: GivenNode): Slot => {
    const known = slots.get(node);
    if (known !== undefined) return known;
    if (node.op === "input") {
      const slot = newSlot(node);
      const { name, begin } = node.attributes;
      given.set(name, [...(given.get(name) ?? []), { slot, offset: 4 * begin, bytes: Math.max(4, gpuBytes(node)) }]);
      return slot;
    }
    const slot = newSlot(node, bytesOf(node, storage));
    constants.push({ slot, node, storage: storage(node) });
    return slot;
  };

  const outputNodes = new Set<Node | Scratch>(Object.values(outputs));
  // Computed results are written to the caller's buffers.
  const written = new Set<Node>();
  const produced = new Set(kernels.map(({ result }) => result));
  for (const [name, node] of Object.entries(outputs)) {
    const isOwn = produced.has(node) && !written.has(node);
    if (isOwn) {
      written.add(node);
      results.set(name, { slot: newSlot(node), copied: false, node });
    } else {
      results.set(name, { slot: slots.get(node) ?? slotOfGiven(node as GivenNode), copied: true, node });
    }
  }

  const last = new Map<Node | Scratch, number>();
  kernels.forEach(({ reads }, i) => reads.forEach((value) => last.set(value, i)));
  const free: Slot[] = [];
  const preparation: Step[] = [];
  const steps: Step[] = [];
  const temporary: Slot[] = [];
  const needed = new Set(kernels.filter((kernel) => !folding.kernels.has(kernel)).flatMap(({ reads }) => reads));
  kernels.forEach((kernel, i) => {
    const { label, code, groups, reads, result } = kernel;
    const isFolded = folding.kernels.has(kernel);
    const readSlots = reads.map((value) => slots.get(value) ?? slotOfGiven(value as GivenNode));
    let slot = slots.get(result);
    if (slot === undefined && isFolded) {
      slot = newSlot(result, bytesOf(result, storage));
      if (!needed.has(result)) temporary.push(slot);
    } else if (slot === undefined) {
      const bytes = bytesOf(result, storage);
      slot = reusable(free, slotBytes, bytes);
      if (slot === undefined) slot = newSlot(result, bytes);
      else slots.set(result, slot);
    }
    (isFolded ? preparation : steps).push({ label, code, groups, slots: [slot, ...readSlots] });
    if (isFolded) return;
    for (const value of new Set([...reads, result])) {
      const isLast = (last.get(value) ?? i) <= i;
      if (!isLast || folding.isConstant(value) || outputNodes.has(value) || (!isScratch(value) && isGiven(value)))
        continue;
      free.push(slots.get(value)!);
    }
  });
  for (const { slot, node } of constants)
    if (!needed.has(node) && ![...results.values()].some((r) => r.slot === slot)) temporary.push(slot);
  return { preparation, steps, slotBytes, constants, temporary, given, results };
}

/** Takes the smallest free slot that holds so many bytes and is not much larger, if there is one. */
function reusable(free: Slot[], slotBytes: ReadonlyMap<Slot, number>, bytes: number): Slot | undefined {
  const fits = free
    .filter((slot) => slotBytes.get(slot)! >= bytes && slotBytes.get(slot)! <= 4 * bytes + 65536)
    .sort((a, b) => slotBytes.get(a)! - slotBytes.get(b)!)[0];
  if (fits !== undefined) free.splice(free.indexOf(fits), 1);
  return fits;
}
