import { SdxsError } from "../core/errors.js";
import type { CompileSpec } from "../core/program.js";
import type { Node as RecordedNode } from "../graph/node.js";
import type { Outputs } from "./ir/graph.js";
import { isRows, type Node } from "./ir/node.js";
import { verify, type Invariant } from "./ir/verify.js";
import { elementwiseKernel } from "./kernels/elementwise.js";
import { gemmKernels } from "./kernels/gemm.js";
import { MOST_GROUPS, type Kernel } from "./kernels/kernel.js";
import { rowKernels } from "./kernels/reduction.js";
import type { Surroundings } from "./kernels/shader.js";
import { estimatedTiling, type ChooseTiling } from "./kernels/tile-choice.js";
import { canonicalize, hasNoBias, readsAtMost } from "./passes/canonicalize.js";
import { chooseStorage } from "./passes/choose-storage.js";
import { foldConstants } from "./passes/fold-constants.js";
import { fuseEpilogues } from "./passes/fuse-epilogues.js";
import type { PassLimits } from "./passes/limits.js";
import { lower } from "./passes/lower.js";
import { mergeGemms } from "./passes/merge-gemms.js";
import { nhwcLayout } from "./passes/nhwc-layout.js";
import { reuseBuffers, type Plan } from "./passes/reuse-buffers.js";
import { splitLargeTensors } from "./passes/split-large-tensors.js";

/** Features and limits of a device that kernels depend on. */
export interface DeviceTraits {
  readonly hasFloat16: boolean;
  readonly hasSubgroupMatrices: boolean;
  readonly maxThreads: number;
  readonly maxBuffersPerKernel: number;
  /** Bytes that a kernel can be given in one binding. */
  readonly maxTensorBytes: number;
  readonly maxBufferBytes: number;
}

/** A pass over the kernel graph, and the invariants that hold after it and after all later ones. */
interface Pass {
  readonly name: string;
  run(outputs: Outputs, limits: PassLimits): Outputs;
  invariants?(limits: PassLimits): readonly Invariant[];
}

const PASSES: readonly Pass[] = [
  { name: "splitLargeTensors", run: splitLargeTensors },
  { name: "nhwcLayout", run: nhwcLayout },
  { name: "canonicalize", run: canonicalize, invariants: ({ maxBuffers }) => [hasNoBias, readsAtMost(maxBuffers)] },
  { name: "mergeGemms", run: mergeGemms },
];

/**
 * Compiles a recorded program to dispatches: lowers it to the kernel graph, runs the passes, fuses operations into kernels,
 * writes their WGSL, folds constants, and lets values that are never alive together share a buffer.
 *
 * @param options.observe called with the kernel graph after each pass, to print it by `printGraph`
 * @param options.chooseTiling how GEMMs and convolutions are divided. Default: by estimate
 */
export function compilePlan(
  program: Readonly<Record<string, RecordedNode>>,
  precision: NonNullable<CompileSpec["precision"]>,
  traits: DeviceTraits,
  {
    observe = () => undefined,
    chooseTiling = estimatedTiling,
  }: { readonly observe?: (pass: string, outputs: Outputs) => void; readonly chooseTiling?: ChooseTiling } = {},
): Plan {
  // One of a kernel's buffers is its result; vectors are a binding of their own.
  const limits: PassLimits = { ...traits, maxBuffers: traits.maxBuffersPerKernel - 3 };
  let graph = lower(program);
  observe("lower", graph);
  verify("lower", graph, []);
  const invariants: Invariant[] = [];
  for (const pass of PASSES) {
    graph = pass.run(graph, limits);
    observe(pass.name, graph);
    invariants.push(...(pass.invariants?.(limits) ?? []));
    verify(pass.name, graph, invariants);
  }
  const outputs = new Set<Node>(Object.values(graph));
  const fusion = fuseEpilogues([...outputs], limits);
  const storage = chooseStorage(fusion, outputs, precision);
  const around: Surroundings = { isStored: fusion.isStored, storage };
  const useSubgroupMatrices = traits.hasSubgroupMatrices && precision === "float16";
  const kernels = fusion.roots.flatMap((root): readonly Kernel[] => {
    const anchor = fusion.anchors.get(root);
    if (!anchor) return [elementwiseKernel(root, around)];
    return isRows(anchor)
      ? rowKernels(root, anchor, around, traits.maxThreads)
      : gemmKernels(root, anchor, around, useSubgroupMatrices, chooseTiling);
  });
  checkGrids(kernels);
  return reuseBuffers(kernels, graph, storage, foldConstants(kernels, outputs));
}

/** @throws SdxsError with code BACKEND_FAILURE where a kernel has more workgroups than a GPU takes */
function checkGrids(kernels: readonly Kernel[]): void {
  for (const { label, groups } of kernels) {
    if (groups.every((count) => count <= MOST_GROUPS)) continue;
    throw new SdxsError(
      "BACKEND_FAILURE",
      `compile: "${label}" takes ${groups.join(" x ")} workgroups, a GPU at most ${MOST_GROUPS} each way. ` +
        `Use a smaller batch or image.`,
    );
  }
}
