import { adamW, type AdamWOptions, type ResolvedAdamWOptions } from "../adamw.js";
import { InvalidArgumentError, ParameterError, SdxsError } from "../errors.js";
import { HostTensor, sizeOf } from "../host-tensor.js";
import type { TensorMap } from "../ops.js";
import type { StepReport, Trainable } from "../program.js";
import { mapTensors } from "../scope.js";
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
/** Squares are added up in float32 over pieces of this size, then in float64. */
const PIECE_BYTES = PAGE_BYTES;
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
  readonly bytes: number;
  readonly p: number;
  readonly g: number;
  readonly m: number;
  readonly v: number;
  readonly average: number;
  readonly views: { readonly [K in Part | "gradients"]: Float32Array<ArrayBuffer> };
}
/** What the state consists of. */
const PARTS = ["params", "m", "v", "averaged"] as const;
type Part = (typeof PARTS)[number];

/**
 * Parameters, gradients and AdamW state in WebAssembly memory. The tensors are views of it, which onnxruntime reads and
 * writes in place on the CPU, so an update copies nothing.
 */
export class WasmTrainable<D> implements Trainable<D> {
  readonly params: TensorMap<D>;
  readonly averaged: TensorMap<D> | undefined;
  private readonly gradients: TensorMap<D>;
  private readonly options: ResolvedAdamWOptions;
  private readonly slots: ReadonlyMap<string, Slot>;
  private readonly shapes: ReadonlyMap<string, readonly number[]>;
  private accumulated = 0;
  private completed = 0;
  private disposed = false;

  constructor(
    initial: TensorMap<HostTensor>,
    options: AdamWOptions,
    wrap: (tensor: HostTensor) => D,
    private readonly dataOf: (tensor: D) => Float32Array<ArrayBuffer>,
  ) {
    this.options = adamW(options).options;
    const averages = options.emaDecay !== undefined;
    this.slots = allocate(initial, averages);
    this.shapes = new Map(Object.entries(initial).map(([name, { shape }]) => [name, shape]));
    const wrapped = (part: Part | "gradients"): TensorMap<D> =>
      mapTensors(initial, ({ shape }, name) => wrap(new HostTensor(shape, this.slot(name).views[part])));
    for (const [name, { data }] of Object.entries(initial)) {
      this.slot(name).views.params.set(data);
      if (averages) this.slot(name).views.averaged.set(data);
    }
    this.params = wrapped("params");
    this.gradients = wrapped("gradients");
    this.averaged = averages ? wrapped("averaged") : undefined;
  }

  get steps(): number {
    return this.completed;
  }

  get gradientSpace(): TensorMap<D> | undefined {
    return this.accumulated === 0 ? this.gradients : undefined;
  }

  accumulate(gradients: TensorMap<D>): void {
    this.live("accumulate");
    const extra = Object.keys(gradients).find((name) => !this.slots.has(name));
    if (extra !== undefined) {
      throw new ParameterError("UNEXPECTED_PARAMETER", `accumulate: "${extra}" is not a parameter in training.`);
    }
    const given = [...this.slots].map(([name, slot]) => {
      const gradient = gradients[name];
      if (gradient === undefined) {
        throw new ParameterError("MISSING_PARAMETER", `accumulate: there is no gradient for the parameter "${name}".`);
      }
      const data = this.dataOf(gradient);
      const sum = slot.views.gradients;
      if (data.length !== sum.length) {
        throw new ParameterError(
          "SHAPE_MISMATCH",
          `accumulate: the gradient of "${name}" has ${data.length} elements, the parameter ${sum.length}.`,
        );
      }
      return [sum, data] as const;
    });
    for (const [sum, data] of given) {
      if (this.accumulated > 0) for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] ?? 0) + (data[i] ?? 0);
      else if (!isSameMemory(sum, data)) sum.set(data);
    }
    this.accumulated++;
  }

  discard(): void {
    this.accumulated = 0;
  }

  step({ learningRate }: { readonly learningRate: number }): Promise<StepReport> {
    this.live("step");
    const count = this.accumulated;
    if (count === 0) {
      return Promise.reject(new InvalidArgumentError("step: no gradients were accumulated since the last step."));
    }
    this.accumulated = 0;

    let squares = 0;
    for (const { kernels, g, bytes } of this.slots.values()) {
      for (let at = 0; at < bytes; at += PIECE_BYTES) {
        squares += kernels.sumOfSquares(g + at, Math.min(PIECE_BYTES, bytes - at));
      }
    }
    const gradientNorm = Math.sqrt(squares) / count;
    if (!Number.isFinite(gradientNorm)) return Promise.resolve({ gradientNorm, finite: false });

    const { beta1, beta2, epsilon, weightDecay, clipNorm, emaDecay } = this.options;
    this.completed++;
    const clip = clipNorm === undefined ? 1 : Math.min(1, clipNorm / (gradientNorm + CLIP_EPSILON));
    const keep = 1 - learningRate * weightDecay;
    const stepSize = learningRate / (1 - beta1 ** this.completed);
    const vScale = 1 / Math.sqrt(1 - beta2 ** this.completed);
    for (const { kernels, p, g, m, v, average, bytes } of this.slots.values()) {
      // prettier-ignore
      kernels.adamw(p, g, m, v, bytes, clip / count, beta1, 1 - beta1, beta2, 1 - beta2, keep, stepSize, vScale, epsilon);
      if (emaDecay !== undefined) kernels.average(average, p, bytes, emaDecay, 1 - emaDecay);
    }
    return Promise.resolve({ gradientNorm, finite: true });
  }

  state(): Promise<TensorMap<HostTensor>> {
    const state: Record<string, HostTensor> = { steps: new HostTensor([], Int32Array.of(this.completed)) };
    for (const part of this.parts()) {
      for (const [name, slot] of this.slots) {
        state[`${part}.${name}`] = new HostTensor(this.shapes.get(name) ?? [], slot.views[part].slice());
      }
    }
    return Promise.resolve(state);
  }

  restore(state: TensorMap<HostTensor>): void {
    const expected = this.parts().flatMap((part) => [...this.slots.keys()].map((name) => `${part}.${name}`));
    const missing = [...expected, "steps"].filter((key) => state[key] === undefined);
    if (missing.length > 0) {
      throw new ParameterError(
        "MISSING_PARAMETER",
        `restore: the saved state lacks ${missing.slice(0, 5).join(", ")}${missing.length > 5 ? ", ..." : ""}. ` +
          `It was saved for another model or other optimiser options.`,
      );
    }
    for (const part of this.parts()) {
      for (const [name, slot] of this.slots) {
        const saved = state[`${part}.${name}`];
        if (saved?.data.length !== slot.views[part].length) {
          throw new ParameterError("SHAPE_MISMATCH", `restore: "${part}.${name}" has another size than the parameter.`);
        }
      }
    }
    for (const part of this.parts()) {
      for (const [name, slot] of this.slots) slot.views[part].set(state[`${part}.${name}`]?.data ?? []);
    }
    this.completed = state.steps?.item() ?? 0;
    this.accumulated = 0;
  }

  dispose(): void {
    this.disposed = true;
  }

  private live(caller: string): void {
    if (this.disposed) throw new SdxsError("DISPOSED", `${caller}: this trainable was disposed. Make a new one.`);
  }

  private parts(): readonly (typeof PARTS)[number][] {
    return this.averaged ? PARTS : PARTS.slice(0, 3);
  }

  private slot(name: string): Slot {
    const slot = this.slots.get(name);
    if (!slot) throw new ParameterError("MISSING_PARAMETER", `There is no parameter "${name}" in training.`);
    return slot;
  }
}

function isSameMemory(a: Float32Array, b: Float32Array): boolean {
  return a.buffer === b.buffer && a.byteOffset === b.byteOffset;
}

/** Lays parameters out in as many arenas as they need. */
function allocate(initial: TensorMap<HostTensor>, averages: boolean): ReadonlyMap<string, Slot> {
  const parts = averages ? 5 : 4;
  const arenas: { bytes: number; entries: [name: string, length: number, offset: number][] }[] = [];
  for (const [name, tensor] of Object.entries(initial)) {
    if (tensor.dtype !== "float32") {
      throw new SdxsError(
        "DTYPE_MISMATCH",
        `trainable: the parameter "${name}" is ${tensor.dtype}; only float32 can be trained.`,
      );
    }
    const length = sizeOf(tensor.shape);
    const bytes = parts * aligned(length * 4);
    let arena = arenas.at(-1);
    if (!arena || arena.bytes + bytes > ARENA_BYTES) {
      arena = { bytes: 0, entries: [] };
      arenas.push(arena);
    }
    arena.entries.push([name, length, arena.bytes]);
    arena.bytes += bytes;
  }
  const wasm = new WebAssembly.Module(Uint8Array.from(atob(ADAMW_WASM_BASE64), (character) => character.charCodeAt(0)));
  const slots = new Map<string, Slot>();
  for (const { bytes: total, entries } of arenas) {
    const pages = Math.max(1, Math.ceil(total / PAGE_BYTES));
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const { exports } = new WebAssembly.Instance(wasm, { env: { memory } });
    // The exports are exactly the functions of adamw.wat.
    const kernels = exports as unknown as Kernels;
    for (const [name, length, offset] of entries) {
      const bytes = aligned(length * 4);
      const [p, g, m, v] = [offset, offset + bytes, offset + 2 * bytes, offset + 3 * bytes] as const;
      const average = averages ? offset + 4 * bytes : p;
      const view = (at: number): Float32Array<ArrayBuffer> => new Float32Array(memory.buffer, at, length);
      slots.set(name, {
        kernels,
        bytes,
        p,
        g,
        m,
        v,
        average,
        views: { params: view(p), gradients: view(g), m: view(m), v: view(v), averaged: view(average) },
      });
    }
  }
  return slots;
}
