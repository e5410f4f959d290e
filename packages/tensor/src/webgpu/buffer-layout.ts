import { adamW, type AdamW } from "../optim/adamw.js";
import { ParameterError } from "../core/errors.js";
import type { AdamWOptions, Trainable } from "../core/trainable.js";
import { HostTensor, sizeOf, type Shape } from "../core/host-tensor.js";
import type { TensorMap } from "../core/ops.js";
import { trainableIn, type ParameterLayout, type Update } from "../optim/trainable.js";
import { stateParts, trainableShapes, type StatePart } from "../optim/training-checks.js";
import { traitsOf } from "./device.js";
import { ALIGNMENT } from "./passes/limits.js";
import { BUILTINS, gridOf, workgroupNumber } from "./kernels/kernel.js";
import { bindingOf, type GpuMemory, type GpuTensor } from "./memory.js";

/** Size of a buffer that parameters share: chosen, small beside a GPU's memory, and few dispatches for large models. */
const PIECE_BYTES = 2 ** 28;

const THREADS = 256;

/** Workgroups that share the sum of a piece's squares, at most: chosen, enough for a GPU's cores. */
const SHARES = 512;

/**
 * `Backend.trainable` on WebGPU. Parameters stay side by side in a few large buffers, and so do their moments, averages
 * and sums of gradients: a step is a few dispatches over all of them, in place. Gradients are copied there as they arrive.
 *
 * @param mostBytes of a buffer that parameters share
 * @throws SdxsError with code DTYPE_MISMATCH where a parameter is not float32; InvalidArgumentError where an option is out of range.
 */
export function gpuTrainable(
  memory: GpuMemory,
  initial: TensorMap<HostTensor>,
  options: AdamWOptions,
  mostBytes = PIECE_BYTES,
): Trainable<GpuTensor> {
  return trainableIn(new BufferLayout(memory, initial, adamW(options), mostBytes));
}

/** A parameter's range in its piece, in bytes. */
interface Place {
  readonly name: string;
  readonly shape: Shape;
  readonly offset: number;
}

interface Layout {
  readonly places: readonly Place[];
  readonly bytes: number;
}

/** Shares out parameters among as few buffers as hold `mostBytes` each; a larger parameter has one of its own. */
export function layoutsOf(shapes: ReadonlyMap<string, Shape>, mostBytes: number): readonly Layout[] {
  const layouts: { places: Place[]; bytes: number }[] = [];
  for (const [name, shape] of shapes) {
    const bytes = ALIGNMENT * Math.max(1, Math.ceil((4 * sizeOf(shape)) / ALIGNMENT));
    let last = layouts.at(-1);
    if (!last || last.bytes + bytes > mostBytes) layouts.push((last = { places: [], bytes: 0 }));
    last.places.push({ name, shape, offset: last.bytes });
    last.bytes += bytes;
  }
  return layouts;
}

/** Parameters that share buffers. The gaps between them are zero in the sums. */
interface Piece extends Layout {
  /** Of accumulated gradients. */
  readonly sum: GpuTensor;
  readonly state: ReadonlyMap<StatePart, GpuTensor>;
}

class BufferLayout implements ParameterLayout<GpuTensor> {
  readonly shapes: ReadonlyMap<string, Shape>;
  readonly parts: readonly StatePart[];
  readonly params: TensorMap<GpuTensor>;
  readonly averaged: TensorMap<GpuTensor> | undefined;
  private readonly pieces: readonly Piece[];
  private readonly owned: GpuTensor[] = [];
  private readonly settings: GpuTensor;
  private readonly squares: GpuTensor;
  private readonly norm: GpuTensor;
  private readonly kernels = new Map<string, GPUComputePipeline>();
  /** Gradients of one piece on their way to its sum, which has some already. */
  private arriving: GpuTensor | undefined;

  constructor(
    private readonly memory: GpuMemory,
    initial: TensorMap<HostTensor>,
    private readonly optimizer: AdamW,
    mostBytes: number,
  ) {
    memory.check();
    this.shapes = trainableShapes(initial);
    const averages = optimizer.options.emaDecay !== undefined;
    this.parts = stateParts(averages);
    const layouts = layoutsOf(this.shapes, Math.min(mostBytes, traitsOf(memory.device).maxTensorBytes));
    this.pieces = layouts.map((layout) => ({
      ...layout,
      sum: this.zeros(layout.bytes / 4),
      state: new Map(this.parts.map((part) => [part, this.zeros(layout.bytes / 4)])),
    }));
    this.settings = this.zeros(SETTINGS.length);
    this.squares = this.zeros(SHARES * this.pieces.length);
    this.norm = this.zeros();
    memory.reserve(this.bytes);
    this.fill("params", initial);
    if (averages) this.fill("averaged", initial);
    this.params = this.views("params");
    this.averaged = averages ? this.views("averaged") : undefined;
  }

  shapeOf({ shape }: GpuTensor): Shape {
    return shape;
  }

  accumulate(gradients: TensorMap<GpuTensor>, isFirst: boolean): void {
    for (const [name, { dtype }] of Object.entries(gradients)) {
      if (dtype === "float32") continue;
      throw new ParameterError(
        "DTYPE_MISMATCH",
        `accumulate: the gradient of "${name}" must be float32, got ${dtype}.`,
      );
    }
    this.submit((encoder) => {
      for (const piece of this.pieces) this.gather(encoder, piece, gradients, isFirst);
    });
    for (const gradient of Object.values(gradients)) this.memory.dispose(gradient);
  }

  discard(): void {
    // The next first gradients take the sum's place.
  }

  async update({ learningRate, count, step }: Update): Promise<number> {
    this.memory.check();
    const { pieces, settings, squares, norm } = this;
    const values = settingsOf(this.optimizer, learningRate, step, count);
    this.memory.write(settings.buffer, values, "f32");
    this.submit((encoder) => {
      const pass = encoder.beginComputePass();
      pieces.forEach(({ bytes, sum }, i) => {
        const share = { buffer: squares.buffer, offset: 4 * SHARES * i, size: 4 * SHARES };
        this.dispatch(pass, SQUARES, [share, bindingOf(settings), bindingOf(sum)], Math.min(SHARES, groupsOf(bytes)));
      });
      this.dispatch(pass, NORM, [norm, squares].map(bindingOf), 1);
      const { clipNorm, emaDecay } = this.optimizer.options;
      const update = updateKernel(clipNorm !== undefined, emaDecay !== undefined);
      for (const { bytes, sum, state } of pieces) {
        this.dispatch(pass, update, [settings, norm, sum, ...state.values()].map(bindingOf), groupsOf(bytes));
      }
      pass.end();
    });
    return (await this.memory.download(norm)).item();
  }

  async read(): Promise<TensorMap<HostTensor>> {
    const result: Record<string, HostTensor> = {};
    for (const part of this.parts) {
      for (const { places, state } of this.pieces) {
        const { data } = await this.memory.download(state.get(part)!);
        for (const { name, shape, offset } of places) {
          result[`${part}.${name}`] = new HostTensor(shape, data.slice(offset / 4, offset / 4 + sizeOf(shape)));
        }
      }
    }
    return result;
  }

  write(tensors: TensorMap<HostTensor>): void {
    for (const part of this.parts) this.fill(part, tensors, `${part}.`);
  }

  dispose(): void {
    for (const tensor of this.owned) this.memory.dispose(tensor);
    this.memory.reserve(-this.bytes);
  }

  /** Of all parameters. */
  private get bytes(): number {
    return this.pieces.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  private zeros(...shape: number[]): GpuTensor {
    const tensor = this.memory.tensor(shape, "float32");
    this.owned.push(tensor);
    this.submit((encoder) => encoder.clearBuffer(tensor.buffer));
    return tensor;
  }

  private fill(part: StatePart, tensors: TensorMap<HostTensor>, prefix = ""): void {
    for (const { places, state } of this.pieces) {
      const { buffer } = state.get(part)!;
      for (const { name, offset } of places) this.memory.write(buffer, tensors[prefix + name]!.data, "f32", offset);
    }
  }

  private views(part: StatePart): TensorMap<GpuTensor> {
    const views: Record<string, GpuTensor> = {};
    for (const { places, state } of this.pieces) {
      const { buffer } = state.get(part)!;
      for (const { name, shape, offset } of places) views[name] = { shape, dtype: "float32", buffer, offset };
    }
    return views;
  }

  /** Copies a piece's gradients to its sum or, where that has some already, adds them. */
  private gather(encoder: GPUCommandEncoder, piece: Piece, gradients: TensorMap<GpuTensor>, isFirst: boolean): void {
    const { places, bytes, sum } = piece;
    const { buffer } = isFirst ? sum : (this.arriving ??= this.zeros(Math.max(...this.pieces.map((p) => p.bytes)) / 4));
    if (!isFirst) encoder.clearBuffer(buffer, 0, bytes);
    for (const { name, shape, offset } of places) {
      const gradient = gradients[name]!;
      encoder.copyBufferToBuffer(gradient.buffer, gradient.offset, buffer, offset, 4 * sizeOf(shape));
    }
    if (isFirst) return;
    const pass = encoder.beginComputePass();
    this.dispatch(pass, ADD, [bindingOf(sum), { buffer }], groupsOf(bytes));
    pass.end();
  }

  private dispatch(
    pass: GPUComputePassEncoder,
    code: string,
    bindings: readonly GPUBufferBinding[],
    groups: number,
  ): void {
    const { device } = this.memory;
    let pipeline = this.kernels.get(code);
    if (!pipeline) {
      const module = device.createShaderModule({ code });
      pipeline = device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
      this.kernels.set(code, pipeline);
    }
    const entries = bindings.map((resource, binding) => ({ binding, resource }));
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(...gridOf(groups));
  }

  private submit(encode: (encoder: GPUCommandEncoder) => void): void {
    const { device } = this.memory;
    const encoder = device.createCommandEncoder();
    encode(encoder);
    device.queue.submit([encoder.finish()]);
  }
}

/** Each thread takes a vector of four. */
const groupsOf = (bytes: number): number => Math.ceil(bytes / 16 / THREADS);

/** What kernels read of a step. */
const SETTINGS = [
  ...(["count", "beta1", "firstShare", "beta2", "secondShare", "epsilon"] as const),
  ...(["clipNorm", "keep", "stepSize", "secondRoot", "averaging"] as const),
];

function settingsOf(optimizer: AdamW, learningRate: number, step: number, count: number): Float32Array<ArrayBuffer> {
  const { beta1, beta2, epsilon, weightDecay, clipNorm = 0 } = optimizer.options;
  const { first, secondRoot, averaging } = optimizer.biasCorrections(step);
  const values: Record<(typeof SETTINGS)[number], number> = {
    count,
    beta1,
    firstShare: 1 - beta1,
    beta2,
    secondShare: 1 - beta2,
    epsilon,
    clipNorm,
    keep: 1 - learningRate * weightDecay,
    stepSize: learningRate / first,
    secondRoot,
    averaging,
  };
  return Float32Array.from(SETTINGS, (name) => values[name]);
}

const SETTINGS_STRUCT = `struct Settings { ${SETTINGS.map((name) => `${name}: f32`).join(", ")} }`;

const MAIN = `@compute @workgroup_size(${THREADS})
fn main(${BUILTINS})`;

const ADD = `
@group(0) @binding(0) var<storage, read_write> sum: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> arriving: array<vec4<f32>>;
${MAIN} {
  let i = ${workgroupNumber} * ${THREADS}u + thread;
  if (i >= arrayLength(&sum)) { return; }
  sum[i] += arriving[i];
}`;

/** The sum over a workgroup's threads, in the first of them. */
const JOIN = `
var<workgroup> parts: array<f32, ${THREADS}>;
fn join(part: f32, thread: u32) -> f32 {
  parts[thread] = part;
  for (var others = ${THREADS / 2}u; others > 0u; others /= 2u) {
    workgroupBarrier();
    if (thread < others) { parts[thread] += parts[thread + others]; }
  }
  return parts[thread];
}`;

/** Sums of squares over shares of a piece's mean gradients. */
const SQUARES = `
${SETTINGS_STRUCT}
@group(0) @binding(0) var<storage, read_write> squares: array<f32>;
@group(0) @binding(1) var<storage, read> settings: Settings;
@group(0) @binding(2) var<storage, read> sum: array<vec4<f32>>;
${JOIN}
${MAIN} {
  var part = 0f;
  for (var i = group.x * ${THREADS}u + thread; i < arrayLength(&sum); i += ${SHARES * THREADS}u) {
    let gradient = sum[i] / settings.count;
    part += dot(gradient, gradient);
  }
  let square = join(part, thread);
  if (thread == 0u) { squares[group.x] = square; }
}`;

const NORM = `
@group(0) @binding(0) var<storage, read_write> norm: array<f32>;
@group(0) @binding(1) var<storage, read> squares: array<f32>;
${JOIN}
${MAIN} {
  var part = 0f;
  for (var i = thread; i < arrayLength(&squares); i += ${THREADS}u) { part += squares[i]; }
  let square = join(part, thread);
  if (thread == 0u) { norm[0] = sqrt(square); }
}`;

/** The update of `adamW`, in place and only if the norm is finite, tested by its bits: WGSL may assume that floats are finite. */
const updateKernel = (clips: boolean, averages: boolean): string => `
${SETTINGS_STRUCT}
@group(0) @binding(0) var<storage, read> settings: Settings;
@group(0) @binding(1) var<storage, read> norm: array<f32>;
@group(0) @binding(2) var<storage, read> sum: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> params: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> v: array<vec4<f32>>;
${averages ? "@group(0) @binding(6) var<storage, read_write> averaged: array<vec4<f32>>;" : ""}
${MAIN} {
  let i = ${workgroupNumber} * ${THREADS}u + thread;
  let finite = (bitcast<u32>(norm[0]) & 0x7f800000u) != 0x7f800000u;
  if (i >= arrayLength(&sum) || !finite) { return; }
  let scale = ${clips ? "min(settings.clipNorm / (norm[0] + 1e-6f), 1f)" : "1f"};
  let gradient = sum[i] / settings.count * scale;
  let first = m[i] * settings.beta1 + gradient * settings.firstShare;
  let second = v[i] * settings.beta2 + gradient * gradient * settings.secondShare;
  let denominator = sqrt(second) / settings.secondRoot + settings.epsilon;
  let next = params[i] * settings.keep - first / denominator * settings.stepSize;
  m[i] = first;
  v[i] = second;
  params[i] = next;
  ${averages ? "averaged[i] += (next - averaged[i]) * settings.averaging;" : ""}
}`;
