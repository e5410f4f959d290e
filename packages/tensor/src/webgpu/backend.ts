import { SdxsError } from "../core/errors.js";
import { noFloat16, watchDevice } from "../core/gpu-device.js";
import { GraphBuilder } from "../graph/builder.js";
import { recordProgram } from "../graph/record.js";
import type { HostTensor } from "../core/host-tensor.js";
import type { WebgpuDevice } from "../core/platform.js";
import type { TensorMap } from "../core/ops.js";
import type { Backend, CompiledProgram, CompileSpec, Program } from "../core/program.js";
import { checkAgainstSpec } from "../core/run-checks.js";
import { mapTensors } from "../core/parameters.js";
import { hardwareName, traitsOf } from "./device.js";
import { estimatedTiling } from "./kernels/tile-choice.js";
import { bindingOf, GpuMemory, type GpuTensor } from "./memory.js";
import { fuseProgram, gemmsOf, planProgram } from "./compile.js";
import type { Plan, Slot, Step } from "./passes/reuse-buffers.js";
import { Pipelines } from "./pipelines.js";
import { Autotuner } from "./tuning/autotuner.js";
import { GpuKernelTimer } from "./tuning/gpu-kernel-timer.js";
import { browserTuningStore, type TuningStore } from "./tuning/tuning-store.js";
import { gpuTrainable } from "./buffer-layout.js";

export interface WebgpuBackendOptions {
  /** A device of `requestGpuDevice`, or any other: kernels use the features and limits that it was created with. */
  readonly device: WebgpuDevice;
  /**
   * Whether `compile` times tiles of a program's large GEMMs and convolutions on the device and takes the fastest. This takes a
   * second at most, once for each size: tilings are kept in `tuningStore`, under the adapter's name. On software renderers, and
   * on adapters without a name, tiles are chosen by estimate, as with false. The order of sums depends on the tiling: with false,
   * a program gives the same bits in each process. Default true.
   */
  readonly autotune?: boolean;
  /** Default: IndexedDB in browsers, else none. `fileTuningStore` of `@sdxs/tensor/node` is one on disk. */
  readonly tuningStore?: TuningStore | undefined;
}

/**
 * A backend whose kernels are written for the program, in WGSL, on any WebGPU device: browsers', or in Node that of the package
 * webgpu. A program is traced once; operations are fused into kernels, weights are stored in the order in which kernels read
 * them, buffers are planned, and each run is one submission to the GPU. Results and parameters in training stay on the GPU.
 *
 * With `precision: "float16"`, GEMMs and convolutions run on subgroup matrices where the device has them.
 *
 * @throws SdxsError with code DEVICE_LOST from `compile`, `run` and `download` once the device is lost: make another.
 *
 * @example
 * const backend = webgpuBackend({ device: await requestGpuDevice(navigator.gpu) });
 */
export function webgpuBackend({
  device,
  autotune = true,
  tuningStore = browserTuningStore(),
}: WebgpuBackendOptions): Backend<GpuTensor> {
  const memory = new GpuMemory(device);
  const name = autotune ? hardwareName(device) : undefined;
  const tuner =
    name === undefined ? undefined : new Autotuner({ name, store: tuningStore, now: () => performance.now() });
  const pipelines = new Pipelines(device);
  watchDevice(device);
  return {
    name: "webgpu",
    upload(tensor) {
      memory.check();
      return memory.upload(tensor);
    },
    download: (tensor) => memory.download(tensor),
    dispose: (tensor) => memory.dispose(tensor),
    memory: () => memory.counts(),
    compile: <In extends string, Out extends string>(program: Program<In, Out>, spec: CompileSpec<In>) =>
      compileProgram(memory, pipelines, tuner, program, spec),
    trainable: (initial, optimizer) => gpuTrainable(memory, initial, optimizer),
  };
}

/** Dispatches submitted together, so that the GPU begins while later ones are being encoded: chosen. */
const SUBMITTED = 64;

/** See `attention`: 256 MiB, which a GPU's many cores need for all to have work. */
const MOST_SCORES = 2 ** 26;

async function compileProgram<In extends string, Out extends string>(
  memory: GpuMemory,
  pipelines: Pipelines,
  tuner: Autotuner | undefined,
  program: Program<In, Out>,
  spec: CompileSpec<In>,
): Promise<CompiledProgram<GpuTensor, In, Out>> {
  const begin = performance.now();
  memory.check();
  const traits = traitsOf(memory.device);
  const { precision = "float32" } = spec;
  if (precision === "float16" && !traits.hasFloat16) throw noFloat16();
  const builder = new GraphBuilder(Infinity, Math.min(MOST_SCORES, traits.maxTensorBytes / 4));
  const { outputs } = recordProgram(builder, program, spec);
  const fused = fuseProgram(outputs, precision, traits);
  const timer = new GpuKernelTimer(memory, new Pipelines(memory.device), fused.around.storage);
  const plan = planProgram(fused, tuner ? await tuner.tune(gemmsOf(fused), timer) : estimatedTiling);
  const compiled = new GpuProgram<In, Out>(memory, plan, spec);
  await compiled.prepare(pipelines);
  compiled.compileMs = performance.now() - begin;
  return compiled;
}

/** Not instanceof: a HostTensor may come from the other of the package's ESM and CJS copies. */
const isOnDevice = (tensor: GpuTensor | HostTensor): tensor is GpuTensor => "buffer" in tensor;

/** A step with its pipeline and, as long as its buffers stay the same, its bind group. */
interface Dispatch {
  readonly step: Step;
  readonly pipeline: GPUComputePipeline;
  group: GPUBindGroup | undefined;
}

class GpuProgram<In extends string, Out extends string> implements CompiledProgram<GpuTensor, In, Out> {
  compileMs = 0;
  /** Of the program's memory, and of the last run's inputs and results. */
  private readonly bindings = new Map<Slot, GPUBufferBinding>();
  /** The buffers of the last run's results, by name. */
  private readonly resultBuffers = new Map<string, GPUBuffer>();
  /** Those that read or write a slot from outside. */
  private readonly dispatchesOf = new Map<Slot, Dispatch[]>();
  private dispatches: readonly Dispatch[] = [];
  private disposed = false;

  constructor(
    private readonly memory: GpuMemory,
    private readonly plan: Plan,
    private readonly spec: CompileSpec<In>,
  ) {}

  /** Compiles the kernels, and computes what depends on constants alone. */
  async prepare(pipelines: Pipelines): Promise<void> {
    const { memory, plan, bindings, dispatchesOf } = this;
    const dispatch = async (step: Step): Promise<Dispatch> => ({
      step,
      pipeline: await pipelines.get(step),
      group: undefined,
    });
    const [preparation, dispatches] = await Promise.all([
      Promise.all(plan.preparation.map(dispatch)),
      Promise.all(plan.steps.map(dispatch)),
    ]);
    this.dispatches = dispatches;
    for (const one of dispatches) {
      for (const slot of one.step.slots) {
        const others = dispatchesOf.get(slot);
        if (others) others.push(one);
        else if (!plan.slotBytes.has(slot)) dispatchesOf.set(slot, [one]);
      }
    }
    for (const [slot, bytes] of plan.slotBytes) bindings.set(slot, { buffer: memory.take(bytes) });
    for (const { slot, node, storage } of plan.constants) memory.write(bindings.get(slot)!.buffer, node.data, storage);
    this.submit(preparation, []);
    for (const slot of plan.temporary) this.giveBack(slot);
    memory.check();
  }

  upload(params: TensorMap<HostTensor>): TensorMap<GpuTensor> {
    return mapTensors(params, (tensor) => this.memory.upload(tensor));
  }

  async run(
    params: TensorMap<GpuTensor | HostTensor>,
    given: Readonly<Record<In, GpuTensor | HostTensor>>,
  ): Promise<Readonly<Record<Out, GpuTensor>>> {
    if (this.disposed) throw new SdxsError("DISPOSED", "run: this compiled program was disposed. Compile it again.");
    const { memory, plan, spec } = this;
    memory.check();
    checkAgainstSpec("parameter", spec.params ?? {}, params);
    checkAgainstSpec("input", spec.inputs, given);
    const uploaded: GpuTensor[] = [];
    for (const [name, slots] of plan.given) {
      const tensor = (name in spec.inputs ? given[name as In] : params[name])!;
      const onDevice = isOnDevice(tensor) ? tensor : memory.upload(tensor, this.bindings.get(slots[0]!.slot)?.buffer);
      if (onDevice !== tensor) uploaded.push(onDevice);
      for (const { slot, offset, bytes } of slots) {
        this.bind(slot, { buffer: onDevice.buffer, offset: onDevice.offset + offset, size: bytes });
      }
    }
    const results: Record<string, GpuTensor> = {};
    const copies: [from: Slot, to: GPUBuffer][] = [];
    for (const [name, { slot, copied, node }] of plan.results) {
      const tensor = memory.tensor(node.shape, node.dtype, this.resultBuffers.get(name));
      results[name] = tensor;
      this.resultBuffers.set(name, tensor.buffer);
      if (copied) copies.push([slot, tensor.buffer]);
      else this.bind(slot, bindingOf(tensor));
    }
    this.submit(this.dispatches, copies);
    for (const tensor of uploaded) memory.dispose(tensor);
    return results as Record<Out, GpuTensor>;
  }

  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    for (const slot of this.plan.slotBytes.keys()) this.giveBack(slot);
    this.bindings.clear();
    this.resultBuffers.clear();
    this.dispatchesOf.clear();
    this.dispatches = [];
  }

  private giveBack(slot: Slot): void {
    const binding = this.bindings.get(slot);
    if (binding) this.memory.give(binding.buffer);
    this.bindings.delete(slot);
  }

  /** Bind groups are made again where an input or result has another buffer than in the last run. */
  private bind(slot: Slot, binding: GPUBufferBinding): void {
    const last = this.bindings.get(slot);
    if (last?.buffer === binding.buffer && last.offset === binding.offset) return;
    this.bindings.set(slot, binding);
    for (const dispatch of this.dispatchesOf.get(slot) ?? []) dispatch.group = undefined;
  }

  private groupOf({ step, pipeline }: Dispatch): GPUBindGroup {
    const entries = step.slots.map((slot, binding) => ({ binding, resource: this.bindings.get(slot)! }));
    return this.memory.device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  }

  private submit(dispatches: readonly Dispatch[], copies: readonly (readonly [from: Slot, to: GPUBuffer])[]): void {
    const { device } = this.memory;
    for (let begin = 0; begin < dispatches.length; begin += SUBMITTED) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      let current: GPUComputePipeline | undefined;
      for (const dispatch of dispatches.slice(begin, begin + SUBMITTED)) {
        const { step, pipeline } = dispatch;
        const [x, y, z] = step.groups;
        if (x * y * z === 0) continue;
        if (pipeline !== current) pass.setPipeline(pipeline);
        current = pipeline;
        pass.setBindGroup(0, (dispatch.group ??= this.groupOf(dispatch)));
        pass.dispatchWorkgroups(x, y, z);
      }
      pass.end();
      device.queue.submit([encoder.finish()]);
    }
    if (copies.length === 0) return;
    const encoder = device.createCommandEncoder();
    for (const [from, to] of copies) {
      const { buffer, offset = 0 } = this.bindings.get(from)!;
      encoder.copyBufferToBuffer(buffer, offset, to, 0, to.size);
    }
    device.queue.submit([encoder.finish()]);
  }
}
