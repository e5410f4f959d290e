import { adamW, type AdamW } from "../optim/adamw.js";
import type { AdamWOptions, StepReport, Trainable } from "../core/trainable.js";
import { InvalidArgumentError, ParameterError } from "../core/errors.js";
import { HostTensor, sizeOf, type Shape } from "../core/host-tensor.js";
import type { TensorMap } from "../core/ops.js";
import {
  checkGradients,
  checkLive,
  checkState,
  stateParts,
  trainableShapes,
  type StatePart,
} from "../optim/training-checks.js";
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

/** How an adapter's tensors lie in memory that this process reads. */
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
export class WasmTrainable<D> implements Trainable<D> {
  readonly params: TensorMap<D>;
  readonly averaged: TensorMap<D> | undefined;
  private readonly optimizer: AdamW;
  private readonly slots: ReadonlyMap<string, Slot>;
  private readonly parts: readonly StatePart[];
  private readonly shapes: ReadonlyMap<string, Shape>;
  /** Sums of gradients since the last step, and the tensors that hold them. */
  private pending: Record<string, Float32Array<ArrayBuffer>> | undefined;
  private pendingTensors: readonly D[] = [];
  private pendingCount = 0;
  private completed = 0;
  private disposed = false;

  constructor(
    initial: TensorMap<HostTensor>,
    options: AdamWOptions,
    private readonly device: CpuTensors<D>,
  ) {
    const names = Object.keys(initial);
    this.optimizer = adamW(options);
    const averages = options.emaDecay !== undefined;
    this.parts = stateParts(averages);
    this.shapes = trainableShapes(initial);
    this.slots = allocate(this.shapes, this.parts.length);
    const wrapped = (part: StatePart): TensorMap<D> =>
      Object.fromEntries(
        names.map((name) => [
          name,
          device.wrap(new HostTensor(initial[name]?.shape ?? [], this.slot(name).views[part])),
        ]),
      );
    for (const [name, { data }] of Object.entries(initial)) {
      this.slot(name).views.params.set(data);
      if (averages) this.slot(name).views.averaged.set(data);
    }
    this.params = wrapped("params");
    this.averaged = averages ? wrapped("averaged") : undefined;
  }

  get steps(): number {
    return this.completed;
  }

  accumulate(gradients: TensorMap<D>): void {
    checkLive(this.disposed, "accumulate");
    checkGradients(this.shapes, gradients, (tensor) => this.device.shapeOf(tensor));
    const given: Record<string, Float32Array<ArrayBuffer>> = {};
    const taken = new Set<Float32Array>();
    for (const [name, gradient] of Object.entries(gradients)) {
      const data = this.device.takeData(gradient);
      // Parameters with equal gradients may be given one array, which must not be added to twice.
      given[name] = taken.has(data) ? data.slice() : data;
      taken.add(data);
    }
    const tensors = Object.values(gradients);
    if (this.pending) {
      for (const [name, sum] of Object.entries(this.pending)) {
        const more = given[name];
        if (more) for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] ?? 0) + (more[i] ?? 0);
      }
      this.device.dispose(tensors);
    } else {
      this.pending = given;
      this.pendingTensors = tensors;
    }
    this.pendingCount++;
  }

  discard(): void {
    this.device.dispose(this.pendingTensors);
    this.pending = undefined;
    this.pendingTensors = [];
    this.pendingCount = 0;
  }

  async step({ learningRate }: { readonly learningRate: number }): Promise<StepReport> {
    try {
      return this.update(learningRate);
    } finally {
      this.discard();
    }
  }

  private update(learningRate: number): StepReport {
    checkLive(this.disposed, "step");
    const gradients = this.pending;
    if (!gradients) throw new InvalidArgumentError("step: no gradients were accumulated since the last step.");
    const count = this.pendingCount;

    let squares = 0;
    for (const [name, slot] of this.slots) {
      staged(slot, gradients[name], (_offset, bytes) => (squares += slot.kernels.sumOfSquares(0, bytes)));
    }
    const gradientNorm = Math.sqrt(squares) / count;
    if (!Number.isFinite(gradientNorm)) return { gradientNorm, finite: false };

    const { beta1, beta2, epsilon, weightDecay, clipNorm, emaDecay } = this.optimizer.options;
    const { first, secondRoot, averaging } = this.optimizer.biasCorrections(++this.completed);
    const clip = clipNorm === undefined ? 1 : Math.min(1, clipNorm / (gradientNorm + CLIP_EPSILON));
    const keep = 1 - learningRate * weightDecay;
    const stepSize = learningRate / first;
    const vScale = 1 / secondRoot;
    for (const [name, slot] of this.slots) {
      const { kernels, p, m, v, average } = slot;
      staged(slot, gradients[name], (at, bytes) => {
        // prettier-ignore
        kernels.adamw(p + at, 0, m + at, v + at, bytes, clip / count, beta1, 1 - beta1, beta2, 1 - beta2, keep, stepSize, vScale, epsilon);
        if (emaDecay !== undefined) kernels.average(average + at, p + at, bytes, 1 - averaging, averaging);
      });
    }
    return { gradientNorm, finite: true };
  }

  async state(): Promise<TensorMap<HostTensor>> {
    checkLive(this.disposed, "state");
    const state: Record<string, HostTensor> = { steps: new HostTensor([], Int32Array.of(this.completed)) };
    for (const part of this.parts) {
      for (const [name, slot] of this.slots) {
        state[`${part}.${name}`] = new HostTensor(this.shapes.get(name) ?? [], slot.views[part].slice());
      }
    }
    return state;
  }

  restore(state: TensorMap<HostTensor>): void {
    checkLive(this.disposed, "restore");
    const { tensors, steps } = checkState(this.shapes, this.parts, state);
    for (const part of this.parts) {
      for (const [name, slot] of this.slots) slot.views[part].set(tensors[`${part}.${name}`]!.data);
    }
    this.completed = steps;
    this.discard();
  }

  dispose(): void {
    this.discard();
    this.disposed = true;
  }

  private slot(name: string): Slot {
    const slot = this.slots.get(name);
    if (!slot) throw new ParameterError("MISSING_PARAMETER", `There is no parameter "${name}" in training.`);
    return slot;
  }
}

/** Calls `use` for pieces of the gradient that lie at address 0; `offset` is the piece's place in the parameter. */
function staged(
  slot: Slot,
  gradient: Float32Array<ArrayBuffer> | undefined,
  use: (offset: number, bytes: number) => void,
): void {
  if (!gradient) return;
  const step = slot.stage.length;
  for (let begin = 0; begin < gradient.length; begin += step) {
    const piece = gradient.subarray(begin, begin + step);
    slot.stage.set(piece);
    const bytes = aligned(piece.byteLength);
    // The kernels read whole vectors: what lies behind the last piece must not be left from another one.
    slot.stage.fill(0, piece.length, bytes / 4);
    use(begin * 4, bytes);
  }
}

/** Lays parameters out in as many arenas as they need. */
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
