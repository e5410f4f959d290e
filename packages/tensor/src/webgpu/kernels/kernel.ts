import type { Node } from "../ir/node.js";

/** Workgroups along one axis of a dispatch, at most: WebGPU's default limit. */
export const MOST_GROUPS = 65535;

/** One dispatch. */
export interface Kernel {
  /** For profilers. */
  readonly label: string;
  /** WGSL; sizes are part of it. */
  readonly code: string;
  readonly groups: readonly [x: number, y: number, z: number];
  /** The contents of the shader's buffers, from binding 1 on. */
  readonly reads: readonly (Node | Scratch)[];
  /** The content of binding 0 after the dispatch. */
  readonly result: Node | Scratch;
}

/** Partial results that one kernel leaves for the next. */
export interface Scratch {
  readonly scratchBytes: number;
}

/** of(0), of(1), ... */
export const times = <R>(count: number, of: (i: number) => R): R[] => Array.from({ length: count }, (_, i) => of(i));

/** The label in a profiler: the operation and its result's shape. */
export const labelOf = (node: Node): string => `${nameOf(node)} ${node.shape.join("x")}`;

export const nameOf = (node: Node): string =>
  node.op === "map" || node.op === "reduction" ? node.attributes.function : node.op;

export const isScratch = (value: Node | Scratch): value is Scratch => "scratchBytes" in value;

export const gridOf = (groups: number): readonly [number, number, number] =>
  groups <= MOST_GROUPS ? [groups, 1, 1] : [MOST_GROUPS, Math.ceil(groups / MOST_GROUPS), 1];

/** The number of a workgroup in such a grid, in WGSL. */
export const workgroupNumber = `(group.y * ${MOST_GROUPS}u + group.x)`;

export const BUILTINS = "@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32";
