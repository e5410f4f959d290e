import { SdxsError } from "../core/errors.js";
import type { CompileSpec } from "../core/program.js";
import type { Node as RecordedNode } from "../graph/node.js";
import type { Outputs } from "./ir/graph.js";
import { isRows, type Node } from "./ir/node.js";
import { verify, type Invariant } from "./ir/verify.js";
import { elementwiseKernel } from "./kernels/elementwise.js";
import { gemmKernels, gemmProblem } from "./kernels/gemm.js";
import { MOST_GROUPS, type Kernel } from "./kernels/kernel.js";
import { rowKernels } from "./kernels/reduction.js";
import type { Surroundings } from "./kernels/shader.js";
import { estimatedTiling, type ChooseTiling, type GemmProblem, type Tiling } from "./kernels/tile-choice.js";
import { canonicalize, hasNoBias, readsAtMost } from "./passes/canonicalize.js";
import { chooseStorage } from "./passes/choose-storage.js";
import { foldConstants } from "./passes/fold-constants.js";
import { fuseEpilogues, type Fusion } from "./passes/fuse-epilogues.js";
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

/** Called with the kernel graph after each pass. */
export type Observe = (pass: string, outputs: Outputs) => void;

export interface CompileOptions {
  readonly observe?: Observe;
  readonly chooseTiling?: ChooseTiling;
}

/** A program whose operations are fused into kernels, which are not written yet. */
export interface FusedProgram {
  readonly graph: Outputs;
  readonly fusion: Fusion;
  readonly around: Surroundings;
  readonly useSubgroupMatrices: boolean;
  readonly maxThreads: number;
}

/**
 * The stages before kernels: lowers a recorded program to the kernel graph, runs the passes, and fuses operations into kernels.
 *
 * @param observe to print the graph by `printGraph`
 */
export function fuseProgram(
  program: Readonly<Record<string, RecordedNode>>,
  precision: NonNullable<CompileSpec["precision"]>,
  traits: DeviceTraits,
  observe: Observe = () => undefined,
): FusedProgram {
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
  return {
    graph,
    fusion,
    around: { isStored: fusion.isStored, storage },
    useSubgroupMatrices: traits.hasSubgroupMatrices && precision === "float16",
    maxThreads: traits.maxThreads,
  };
}

/** A GEMM or a convolution of a program, and its kernels by tiling. */
export interface FusedGemm {
  readonly problem: GemmProblem;
  readonly kernels: (tiling: Tiling) => readonly Kernel[];
}

export function gemmsOf({ fusion, around, useSubgroupMatrices }: FusedProgram): readonly FusedGemm[] {
  return fusion.roots.flatMap((root) => {
    const anchor = fusion.anchors.get(root);
    if (!anchor || isRows(anchor)) return [];
    return {
      problem: gemmProblem(anchor, around, useSubgroupMatrices),
      kernels: (tiling) => gemmKernels(root, anchor, around, useSubgroupMatrices, () => tiling),
    };
  });
}

/**
 * The stages from kernels on: writes their WGSL, folds constants, and lets values that are never alive together share a buffer.
 *
 * @param chooseTiling how GEMMs and convolutions are divided
 */
export function planProgram(fused: FusedProgram, chooseTiling: ChooseTiling): Plan {
  const { graph, fusion, around, useSubgroupMatrices, maxThreads } = fused;
  const kernels = fusion.roots.flatMap((root): readonly Kernel[] => {
    const anchor = fusion.anchors.get(root);
    if (!anchor) return [elementwiseKernel(root, around)];
    return isRows(anchor)
      ? rowKernels(root, anchor, around, maxThreads)
      : gemmKernels(root, anchor, around, useSubgroupMatrices, chooseTiling);
  });
  checkGrids(kernels);
  return reuseBuffers(kernels, graph, around.storage, foldConstants(kernels, new Set(Object.values(graph))));
}

/**
 * Compiles a recorded program to dispatches: all stages.
 *
 * @param options.observe as of `fuseProgram`
 * @param options.chooseTiling as of `planProgram`. Default: by estimate
 */
export const compilePlan = (
  program: Readonly<Record<string, RecordedNode>>,
  precision: NonNullable<CompileSpec["precision"]>,
  traits: DeviceTraits,
  { observe, chooseTiling = estimatedTiling }: CompileOptions = {},
): Plan => planProgram(fuseProgram(program, precision, traits, observe), chooseTiling);

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
