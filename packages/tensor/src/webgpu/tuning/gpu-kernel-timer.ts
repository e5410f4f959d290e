import type { Node } from "../ir/node.js";
import type { Kernel, Scratch } from "../kernels/kernel.js";
import type { Storage } from "../kernels/shader.js";
import type { GpuMemory } from "../memory.js";
import { bytesOf } from "../passes/reuse-buffers.js";
import type { Pipelines } from "../pipelines.js";
import type { KernelTimer } from "./autotuner.js";

// WebGPU's own numbers, which Node does not have as globals.
const MAP_READ = 1;
const COPY_SRC = 4;
const COPY_DST = 8;
const QUERY_RESOLVE = 512;
const MODE_READ = 1;

/** Kernels are repeated until they take so long, since browsers round times to 100 microseconds: chosen. */
const LONG_MICROSECONDS = 2000;
const MOST_REPEATS = 50;

/** Two times of 8 bytes. */
const TIME_BYTES = 16;

/** Times kernels by WebGPU's timestamps where the device has them, else by when the GPU says that it has done. */
export class GpuKernelTimer implements KernelTimer {
  private readonly device: GPUDevice;

  constructor(
    private readonly memory: GpuMemory,
    private readonly pipelines: Pipelines,
    private readonly storage: (node: Node) => Storage,
  ) {
    this.device = memory.device;
  }

  prepare(kernels: readonly Kernel[]): Promise<unknown> {
    return Promise.all(kernels.map((kernel) => this.pipelines.get(kernel)));
  }

  async time(kernels: readonly Kernel[]): Promise<number> {
    const { memory, device } = this;
    const buffers = new Map<Node | Scratch, GPUBuffer>();
    const bufferOf = (value: Node | Scratch): GPUBuffer => {
      const buffer = buffers.get(value) ?? memory.take(bytesOf(value, this.storage));
      buffers.set(value, buffer);
      return buffer;
    };
    const dispatches = await Promise.all(
      kernels.map(async (kernel) => {
        const pipeline = await this.pipelines.get(kernel);
        const entries = [kernel.result, ...kernel.reads].map((value, binding) => ({
          binding,
          resource: { buffer: bufferOf(value) },
        }));
        const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
        return { pipeline, group, groups: kernel.groups };
      }),
    );
    const encode = (pass: GPUComputePassEncoder, repeats: number): void => {
      for (let i = 0; i < repeats; i++) {
        for (const { pipeline, group, groups } of dispatches) {
          pass.setPipeline(pipeline);
          pass.setBindGroup(0, group);
          pass.dispatchWorkgroups(...groups);
        }
      }
    };
    try {
      const first = await this.measure((pass) => encode(pass, 1)); // also warms the GPU up
      if (first >= LONG_MICROSECONDS) return first;
      const repeats = Math.min(MOST_REPEATS, Math.ceil(LONG_MICROSECONDS / Math.max(first, 1)));
      return (await this.measure((pass) => encode(pass, repeats))) / repeats;
    } finally {
      for (const buffer of buffers.values()) memory.give(buffer);
      memory.check();
    }
  }

  /** What a pass takes, in microseconds. */
  private async measure(encode: (pass: GPUComputePassEncoder) => void): Promise<number> {
    const { device } = this;
    return device.features.has("timestamp-query") ? this.byTimestamps(encode) : this.byClock(encode);
  }

  private async byTimestamps(encode: (pass: GPUComputePassEncoder) => void): Promise<number> {
    const { device } = this;
    const querySet = device.createQuerySet({ type: "timestamp", count: 2 });
    const resolved = device.createBuffer({ size: TIME_BYTES, usage: QUERY_RESOLVE | COPY_SRC });
    const copy = device.createBuffer({ size: TIME_BYTES, usage: MAP_READ | COPY_DST });
    const encoder = device.createCommandEncoder();
    const timestampWrites = { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 };
    const pass = encoder.beginComputePass({ timestampWrites });
    encode(pass);
    pass.end();
    encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, copy, 0, TIME_BYTES);
    device.queue.submit([encoder.finish()]);
    await copy.mapAsync(MODE_READ);
    const [begin = 0n, end = 0n] = new BigUint64Array(copy.getMappedRange());
    const nanoseconds = Number(end - begin);
    for (const resource of [querySet, resolved, copy]) resource.destroy();
    return nanoseconds / 1000;
  }

  private async byClock(encode: (pass: GPUComputePassEncoder) => void): Promise<number> {
    const { queue } = this.device;
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    encode(pass);
    pass.end();
    await queue.onSubmittedWorkDone();
    const begin = performance.now();
    queue.submit([encoder.finish()]);
    await queue.onSubmittedWorkDone();
    return 1000 * (performance.now() - begin);
  }
}
