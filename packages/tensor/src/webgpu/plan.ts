import { reachable, type Node } from "../graph/node.js";
import { SdxsError } from "../core/errors.js";
import { sizeOf } from "../core/host-tensor.js";
import { computesInHalf } from "../graph/half-precision.js";
import { channelsLast } from "./channels-last.js";
import { elementwiseKernel } from "./elementwise.js";
import { MOST_GROUPS, isScratch, type Kernel, type Scratch } from "./kernel.js";
import { isGiven, isProduct, isRows } from "./kinds.js";
import { mergeProducts } from "./merge-products.js";
import { productKernels } from "./product.js";
import { regionsOf } from "./regions.js";
import { rewrite } from "./rewrite.js";
import { rowsKernels } from "./rows.js";
import { FULL, type Storage, type Surroundings } from "./shader.js";
import { gpuBytes, splitLarge, type SizeLimits } from "./split-large.js";
import { viewOf } from "./view.js";

/** What a device can do, as far as kernels depend on it. */
export interface DeviceTraits extends SizeLimits {
  readonly hasFloat16: boolean;
  readonly hasMatrixUnits: boolean;
  readonly maxThreads: number;
  readonly maxBuffersPerKernel: number;
}

/** A piece of device memory. Several values may lie in one after each other. */
export type Slot = number;

export interface Step extends Omit<Kernel, "reads" | "result"> {
  /** Result first, then what is read, as the shader's bindings count. */
  readonly slots: readonly Slot[];
}

/** Of an input or parameter, or of a part of it. */
export interface GivenSlot {
  readonly slot: Slot;
  /** Where it begins in the tensor that is given, in bytes. */
  readonly offset: number;
  readonly bytes: number;
}

/** What a compiled program does, in terms of slots. */
export interface Plan {
  /** Once, when the program is compiled. */
  readonly preparation: readonly Step[];
  readonly steps: readonly Step[];
  /** Bytes of each slot that the program owns. */
  readonly slotBytes: ReadonlyMap<Slot, number>;
  /** Slots that `preparation` fills and `steps` read. They keep their memory; others share it. */
  readonly constants: readonly { readonly slot: Slot; readonly node: Node; readonly storage: Storage }[];
  /** Slots that only `preparation` needs. */
  readonly temporary: readonly Slot[];
  /** Where inputs and parameters are read, by name. */
  readonly given: ReadonlyMap<string, readonly GivenSlot[]>;
  /** By name, the slot where a result is written or, where that is something else as well, copied from. */
  readonly results: ReadonlyMap<string, { readonly slot: Slot; readonly copied: boolean; readonly node: Node }>;
}

const BYTES: Readonly<Record<Storage, number>> = { f32: 4, f16: 2, i32: 4, u32: 4 };

/** @param precision see `CompileSpec.precision` */
export function planOf(
  named: Readonly<Record<string, Node>>,
  precision: "float32" | "float16",
  traits: DeviceTraits,
): Plan {
  // One of a kernel's buffers is its result; vectors are a binding of their own.
  const maxBuffers = traits.maxBuffersPerKernel - 3;
  const { maxTensorBytes } = traits;
  const split = splitLarge(named, traits);
  const outputs = mergeProducts(rewrite(channelsLast(split), maxBuffers), maxBuffers, maxTensorBytes);
  const regions = regionsOf(Object.values(outputs), maxBuffers, maxTensorBytes);
  const storage = storageOf(regions.roots, regions.isStored, new Set(Object.values(outputs)), precision);
  const around: Surroundings = { isStored: regions.isStored, storage };
  const kernels = regions.roots.flatMap((root): readonly Kernel[] => {
    const anchor = regions.anchors.get(root);
    if (!anchor) return [elementwiseKernel(root, around)];
    if (isRows(anchor)) return rowsKernels(root, anchor, around, traits.maxThreads);
    return productKernels(root, anchor, around, traits.hasMatrixUnits && precision === "float16");
  });
  for (const { label, groups } of kernels) {
    if (groups.every((count) => count <= MOST_GROUPS)) continue;
    throw new SdxsError(
      "BACKEND_FAILURE",
      `compile: "${label}" takes ${groups.join(" x ")} workgroups, a GPU at most ${MOST_GROUPS} each way. ` +
        `Use a smaller batch or image.`,
    );
  }
  return allocate(kernels, outputs, storage);
}

/** How each stored node lies in memory: what is computed in float16 is stored so, and so is what products read. */
function storageOf(
  roots: readonly Node[],
  isStored: (node: Node) => boolean,
  outputs: ReadonlySet<Node>,
  precision: "float32" | "float16",
): (node: Node) => Storage {
  const half = new Map<Node, boolean>();
  const isHalf = (node: Node): boolean => {
    const known = half.get(node);
    if (known !== undefined) return known;
    const result = !isGiven(node) && computesInHalf(node, isHalf);
    half.set(node, result);
    return result;
  };
  if (precision === "float32") return (node) => FULL[node.dtype];
  const operands = new Set<Node>();
  for (const product of reachable(roots).filter(isProduct)) {
    for (const input of product.inputs) {
      const { source } = viewOf(input, isStored);
      if (source.op !== "input" && fits(source)) operands.add(source);
    }
  }
  return (node) =>
    node.dtype === "float32" && !outputs.has(node) && (isHalf(node) || operands.has(node)) ? "f16" : FULL[node.dtype];
}

/** Not a constant with numbers beyond float16. */
function fits(node: Node): boolean {
  const [input] = node.inputs;
  if (node.op === "transpose" || node.op === "reshape") return fits(input!);
  const { data = [] } = node;
  for (const value of data) if (Math.abs(value) > 65504) return false;
  return true;
}

function allocate(
  kernels: readonly Kernel[],
  outputs: Readonly<Record<string, Node>>,
  storage: (node: Node) => Storage,
): Plan {
  const slotBytes = new Map<Slot, number>();
  const slots = new Map<Node | Scratch, Slot>();
  const given = new Map<string, GivenSlot[]>();
  const constants: { slot: Slot; node: Node; storage: Storage }[] = [];
  const results = new Map<string, { slot: Slot; copied: boolean; node: Node }>();
  let count = 0;
  const bytesOf = (value: Node | Scratch): number =>
    isScratch(value)
      ? value.scratchBytes
      : Math.max(4, 4 * Math.ceil((sizeOf(value.shape) * BYTES[storage(value)]) / 4));
  const newSlot = (value: Node | Scratch, bytes?: number): Slot => {
    const slot = count++;
    slots.set(value, slot);
    if (bytes !== undefined) slotBytes.set(slot, bytes);
    return slot;
  };
  const slotOfGiven = (node: Node): Slot => {
    const known = slots.get(node);
    if (known !== undefined) return known;
    if (node.op === "input") {
      const slot = newSlot(node);
      const { name = "", begin = 0 } = node.attributes;
      given.set(name, [...(given.get(name) ?? []), { slot, offset: 4 * begin, bytes: Math.max(4, gpuBytes(node)) }]);
      return slot;
    }
    const slot = newSlot(node, bytesOf(node));
    constants.push({ slot, node, storage: storage(node) });
    return slot;
  };

  // What depends on constants alone is computed once.
  const fixed = new Set<Node | Scratch>();
  const isFixed = (value: Node | Scratch): boolean =>
    fixed.has(value) || (!isScratch(value) && value.op === "constant");
  const outputNodes = new Set<Node | Scratch>(Object.values(outputs));
  const prepared = new Set<Kernel>();
  for (const kernel of kernels) {
    if (!kernel.reads.every(isFixed) || outputNodes.has(kernel.result)) continue;
    prepared.add(kernel);
    fixed.add(kernel.result);
  }

  // Results that are computed are written where the caller gets them.
  const written = new Set<Node>();
  const produced = new Set(kernels.map(({ result }) => result));
  for (const [name, node] of Object.entries(outputs)) {
    const isOwn = produced.has(node) && !written.has(node);
    if (isOwn) {
      written.add(node);
      results.set(name, { slot: newSlot(node), copied: false, node });
    } else {
      results.set(name, { slot: slots.get(node) ?? slotOfGiven(node), copied: true, node });
    }
  }

  const last = new Map<Node | Scratch, number>();
  kernels.forEach(({ reads }, i) => reads.forEach((value) => last.set(value, i)));
  const free: Slot[] = [];
  const preparation: Step[] = [];
  const steps: Step[] = [];
  const temporary: Slot[] = [];
  const needed = new Set(kernels.filter((kernel) => !prepared.has(kernel)).flatMap(({ reads }) => reads));
  kernels.forEach((kernel, i) => {
    const { label, code, groups, reads, result } = kernel;
    const isPrepared = prepared.has(kernel);
    const readSlots = reads.map((value) => slots.get(value) ?? slotOfGiven(value as Node));
    let slot = slots.get(result);
    if (slot === undefined && isPrepared) {
      slot = newSlot(result, bytesOf(result));
      if (!needed.has(result)) temporary.push(slot);
    } else if (slot === undefined) {
      const bytes = bytesOf(result);
      slot = reusable(free, slotBytes, bytes);
      if (slot === undefined) slot = newSlot(result, bytes);
      else slots.set(result, slot);
    }
    (isPrepared ? preparation : steps).push({ label, code, groups, slots: [slot, ...readSlots] });
    if (isPrepared) return;
    for (const value of new Set([...reads, result])) {
      const isLast = (last.get(value) ?? i) <= i;
      if (!isLast || isFixed(value) || outputNodes.has(value) || (!isScratch(value) && isGiven(value))) continue;
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
