import { adamW, type AdamW } from "../optim/adamw.js";
import { ParameterError } from "../core/errors.js";
import { mapTensors } from "../core/parameters.js";
import type { AdamWOptions, Trainable } from "../core/trainable.js";
import { HostTensor, sizeOf, type Shape } from "../core/host-tensor.js";
import type { TensorMap } from "../core/ops.js";
import { trainableIn, type ParameterLayout, type Update } from "../optim/trainable.js";
import { stateParts, trainableShapes, type StatePart } from "../optim/training-checks.js";
import { wasmModule } from "../core/wasm-module.js";
import { ADAMW_WASM_BASE64 } from "./adamw-wasm.js";

interface Kernels {
  sumOfSquares(x: number, bytes: number): number;
  adamw(
    p: number,
    g: number,
    m: number,
    v: number,
    bytes: number,
    scale: number,
    beta1: number,
    rest1: number,
    beta2: number,
    rest2: number,
    keep: number,
    stepSize: number,
    vScale: number,
    epsilon: number,
  ): void;
  average(average: number, p: number, bytes: number, decay: number, rest: number): void;
}

const PAGE_BYTES = 65_536;
/** Gradients pass through the first page of an arena in pieces of this size: they fit the processor's caches. */
const STAGE_BYTES = PAGE_BYTES;
/** A WebAssembly memory addresses 4 GB: parameters spread over several of this size. */
const ARENA_BYTES = 2 ** 30;
/** The kernels read two SIMD vectors of four float32 at a time. */
const ALIGN_BYTES = 32;
/** torch.nn.utils.clip_grad_norm_ adds this to the norm. */
const CLIP_EPSILON = 1e-6;

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGN_BYTES) * ALIGN_BYTES;

/** One parameter's place in an arena. */
interface Slot {
  readonly kernels: Kernels;
  readonly stage: Float32Array<ArrayBuffer>;
  readonly bytes: number;
  readonly p: number;
  readonly m: number;
  readonly v: number;
  readonly average: number;
  readonly views: { readonly [K in StatePart]: Float32Array<ArrayBuffer> };
}

/** An adapter's tensors in memory that this process reads. */
interface CpuTensors<D> {
  /** A tensor over the same memory. */
  wrap(tensor: HostTensor): D;
  shapeOf(tensor: D): Shape;
  /** A tensor's elements, to be changed in place. */
  takeData(tensor: D): Float32Array<ArrayBuffer>;
  dispose(tensors: readonly D[]): void;
}

/**
 * Parameters and AdamW state in WebAssembly memory. The parameter tensors are views of it, which onnxruntime reads in
 * place on the CPU, so an update copies nothing but the gradients, piece by piece.
 */
export function arenaTrainable<D>(
  initial: TensorMap<HostTensor>,
  options: AdamWOptions,
  device: CpuTensors<D>,
): Trainable<D> {
  return trainableIn(new ArenaLayout(initial, adamW(options), device));
}

class ArenaLayout<D> implements ParameterLayout<D> {
  readonly shapes: ReadonlyMap<string, Shape>;
  readonly parts: readonly StatePart[];
  readonly params: TensorMap<D>;
  readonly averaged: TensorMap<D> | undefined;
  private readonly slots: ReadonlyMap<string, Slot>;
  /** Sums of gradients since the last step, and the tensors that hold them. */
  private sums: Record<string, Float32Array<ArrayBuffer>> = {};
  private sumTensors: readonly D[] = [];

  constructor(
    initial: TensorMap<HostTensor>,
    private readonly optimizer: AdamW,
    private readonly device: CpuTensors<D>,
  ) {
    const averages = optimizer.options.emaDecay !== undefined;
    this.parts = stateParts(averages);
    this.shapes = trainableShapes(initial);
    this.slots = allocate(this.shapes, this.parts.length);
    for (const [name, { data }] of Object.entries(initial)) {
      this.slot(name).views.params.set(data);
      if (averages) this.slot(name).views.averaged.set(data);
    }
    const wrapped = (part: StatePart): TensorMap<D> =>
      mapTensors(initial, ({ shape }, name) => device.wrap(new HostTensor(shape, this.slot(name).views[part])));
    this.params = wrapped("params");
    this.averaged = averages ? wrapped("averaged") : undefined;
  }

  shapeOf(gradient: D): Shape {
    return this.device.shapeOf(gradient);
  }

  accumulate(gradients: TensorMap<D>, isFirst: boolean): void {
    const given: Record<string, Float32Array<ArrayBuffer>> = {};
    const taken = new Set<Float32Array>();
    for (const [name, gradient] of Object.entries(gradients)) {
      const data = this.device.takeData(gradient);
      // Parameters with equal gradients may be given one array, which must not be added to twice.
      given[name] = taken.has(data) ? data.slice() : data;
      taken.add(data);
    }
    const tensors = Object.values(gradients);
    if (isFirst) {
      this.sums = given;
      this.sumTensors = tensors;
      return;
    }
    for (const [name, sum] of Object.entries(this.sums)) {
      const more = given[name]!;
      for (let i = 0; i < sum.length; i++) sum[i]! += more[i]!;
    }
    this.device.dispose(tensors);
  }

  discard(): void {
    this.device.dispose(this.sumTensors);
    this.sums = {};
    this.sumTensors = [];
  }

  async update(update: Update): Promise<number> {
    try {
      return this.updateInPlace(update);
    } finally {
      this.discard();
    }
  }

  private updateInPlace({ learningRate, count, step }: Update): number {
    const { sums } = this;
    let squares = 0;
    for (const [name, slot] of this.slots) {
      staged(slot, sums[name]!, (_offset, bytes) => (squares += slot.kernels.sumOfSquares(0, bytes)));
    }
    const gradientNorm = Math.sqrt(squares) / count;
    if (!Number.isFinite(gradientNorm)) return gradientNorm;

    const { beta1, beta2, epsilon, weightDecay, clipNorm, emaDecay } = this.optimizer.options;
    const { first, secondRoot, averaging } = this.optimizer.biasCorrections(step);
    const clip = clipNorm === undefined ? 1 : Math.min(1, clipNorm / (gradientNorm + CLIP_EPSILON));
    const keep = 1 - learningRate * weightDecay;
    const stepSize = learningRate / first;
    const vScale = 1 / secondRoot;
    for (const [name, slot] of this.slots) {
      const { kernels, p, m, v, average } = slot;
      staged(slot, sums[name]!, (at, bytes) => {
        // prettier-ignore
        kernels.adamw(p + at, 0, m + at, v + at, bytes, clip / count, beta1, 1 - beta1, beta2, 1 - beta2, keep, stepSize, vScale, epsilon);
        if (emaDecay !== undefined) kernels.average(average + at, p + at, bytes, 1 - averaging, averaging);
      });
    }
    return gradientNorm;
  }

  async read(): Promise<TensorMap<HostTensor>> {
    const state: Record<string, HostTensor> = {};
    for (const part of this.parts) {
      for (const [name, slot] of this.slots) {
        state[`${part}.${name}`] = new HostTensor(this.shapes.get(name)!, slot.views[part].slice());
      }
    }
    return state;
  }

  write(tensors: TensorMap<HostTensor>): void {
    for (const part of this.parts) {
      for (const [name, slot] of this.slots) slot.views[part].set(tensors[`${part}.${name}`]!.data);
    }
  }

  dispose(): void {
    // The garbage collector frees the memory once no view of it is left.
  }

  private slot(name: string): Slot {
    const slot = this.slots.get(name);
    if (!slot) throw new ParameterError("MISSING_PARAMETER", `"${name}" is not a parameter in training.`);
    return slot;
  }
}

/** Calls `use` for pieces of the gradient that lie at address 0; `offset` is the piece's place in the parameter. */
function staged(slot: Slot, gradient: Float32Array<ArrayBuffer>, use: (offset: number, bytes: number) => void): void {
  const step = slot.stage.length;
  for (let begin = 0; begin < gradient.length; begin += step) {
    const piece = gradient.subarray(begin, begin + step);
    slot.stage.set(piece);
    const bytes = aligned(piece.byteLength);
    // The kernels read whole vectors: elements after the last piece must not be those of an earlier one.
    slot.stage.fill(0, piece.length, bytes / 4);
    use(begin * 4, bytes);
  }
}

/** Places parameters in as many arenas as they need. */
function allocate(shapes: ReadonlyMap<string, Shape>, parts: number): ReadonlyMap<string, Slot> {
  const arenas: { bytes: number; entries: [name: string, length: number, offset: number][] }[] = [];
  for (const [name, shape] of shapes) {
    const length = sizeOf(shape);
    const bytes = parts * aligned(length * 4);
    let arena = arenas.at(-1);
    if (!arena || arena.bytes + bytes > ARENA_BYTES) {
      arena = { bytes: STAGE_BYTES, entries: [] };
      arenas.push(arena);
    }
    arena.entries.push([name, length, arena.bytes]);
    arena.bytes += bytes;
  }
  const wasm = wasmModule(ADAMW_WASM_BASE64);
  const slots = new Map<string, Slot>();
  for (const { bytes, entries } of arenas) {
    const pages = Math.ceil(bytes / PAGE_BYTES);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const { exports } = new WebAssembly.Instance(wasm, { env: { memory } });
    // The exports are exactly the functions of adamw.wat.
    const kernels = exports as unknown as Kernels;
    const stage = new Float32Array(memory.buffer, 0, STAGE_BYTES / 4);
    for (const [name, length, offset] of entries) {
      const size = aligned(length * 4);
      const at = (part: number): number => offset + Math.min(part, parts - 1) * size;
      const view = (part: number): Float32Array<ArrayBuffer> => new Float32Array(memory.buffer, at(part), length);
      slots.set(name, {
        kernels,
        stage,
        bytes: size,
        p: at(0),
        m: at(1),
        v: at(2),
        average: at(3),
        views: { params: view(0), m: view(1), v: view(2), averaged: view(3) },
      });
    }
  }
  return slots;
}
