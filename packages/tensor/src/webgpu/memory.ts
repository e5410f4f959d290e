import { watchDevice } from "../core/gpu-device.js";
import { SdxsError } from "../core/errors.js";
import { encodeFloat16 } from "../weights/half.js";
import { HostTensor, sizeOf, type DType, type HostData, type Shape } from "../core/host-tensor.js";
import type { WebgpuBuffer } from "../core/platform.js";
import { FULL, type Storage } from "./kernels/shader.js";

// WebGPU's constants, which Node does not have as globals.
const MAP_READ = 1;
const COPY_SRC = 4;
const COPY_DST = 8;
const STORAGE = 128;
const MODE_READ = 1;

/** Free buffers are kept for reuse up to this many bytes in all, beside the reserved bytes: chosen. */
const KEPT_BYTES = 2 ** 29;

/** How long to wait for the report that a device is lost: chosen. */
const LOSS_MILLISECONDS = 1000;

/** A tensor in a GPU's memory. */
export interface GpuTensor {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly buffer: WebgpuBuffer;
  /** Where it begins in its buffer, in bytes: parameters in training share one. */
  readonly offset: number;
}

/** What a tensor takes in memory. */
export const bytesOf = (shape: Shape): number => Math.max(4, 4 * sizeOf(shape));

export const bindingOf = ({ buffer, offset, shape }: GpuTensor): GPUBufferBinding => ({
  buffer,
  offset,
  size: bytesOf(shape),
});

/** A device's buffers: those of tensors, which are counted, and those that are free. */
export class GpuMemory {
  private readonly live = new Map<GpuTensor, number>();
  private readonly free = new Map<number, GPUBuffer[]>();
  private freeBytes = 0;
  private keptBytes = KEPT_BYTES;

  constructor(readonly device: GPUDevice) {}

  /** Throws errors that the GPU has reported. */
  check(): void {
    watchDevice(this.device).check();
  }

  counts(): { readonly tensors: number; readonly bytes: number } {
    return { tensors: this.live.size, bytes: [...this.live.values()].reduce((sum, bytes) => sum + bytes, 0) };
  }

  /** A buffer for storage whose content is undefined: `wanted`, where that is free and of this size. */
  take(bytes: number, wanted?: GPUBuffer): GPUBuffer {
    const free = this.free.get(bytes) ?? [];
    const place = wanted ? free.indexOf(wanted) : -1;
    const kept = place < 0 ? free.pop() : free.splice(place, 1)[0];
    if (kept) {
      this.freeBytes -= bytes;
      return kept;
    }
    return this.device.createBuffer({ size: bytes, usage: STORAGE | COPY_SRC | COPY_DST });
  }

  /** Returns a buffer of `take`. Submitted work may still read it; the queue runs later work after that. */
  give(buffer: GPUBuffer): void {
    if (this.freeBytes + buffer.size > this.keptBytes) {
      buffer.destroy();
      return;
    }
    this.freeBytes += buffer.size;
    const kept = this.free.get(buffer.size);
    if (kept) kept.push(buffer);
    else this.free.set(buffer.size, [buffer]);
  }

  /** Keeps this many more bytes of free buffers or, below zero, fewer: for gradients, which each step allocates again. */
  reserve(bytes: number): void {
    this.keptBytes += bytes;
    for (const buffers of this.free.values()) {
      while (this.freeBytes > this.keptBytes && buffers.length > 0) {
        const buffer = buffers.pop()!;
        this.freeBytes -= buffer.size;
        buffer.destroy();
      }
    }
  }

  /** A tensor whose elements are to be written, in the buffer `wanted` where that is free. */
  tensor(shape: Shape, dtype: DType, wanted?: GPUBuffer): GpuTensor {
    const bytes = bytesOf(shape);
    const tensor = { shape: [...shape], dtype, buffer: this.take(bytes, wanted), offset: 0 };
    this.live.set(tensor, bytes);
    return tensor;
  }

  upload({ shape, dtype, data }: HostTensor, wanted?: GPUBuffer): GpuTensor {
    const tensor = this.tensor(shape, dtype, wanted);
    this.write(tensor.buffer, data, FULL[dtype]);
    return tensor;
  }

  /** Writes elements in the form in which kernels read them. */
  write(buffer: GPUBuffer, data: HostData, storage: Storage, offset = 0): void {
    if (data.length === 0) return;
    if (storage === "f16") {
      const half = encodeFloat16(data as Float32Array);
      const even = half.length % 2 === 0 ? half : Uint16Array.from({ length: half.length + 1 }, (_, i) => half[i] ?? 0);
      this.device.queue.writeBuffer(buffer, offset, even);
      return;
    }
    this.device.queue.writeBuffer(buffer, offset, data instanceof Uint8Array ? Uint32Array.from(data) : data);
  }

  async download({ shape, dtype, buffer, offset }: GpuTensor): Promise<HostTensor> {
    this.check();
    const size = bytesOf(shape);
    const copy = this.device.createBuffer({ size, usage: MAP_READ | COPY_DST });
    const encoder = this.device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, offset, copy, 0, size);
    this.device.queue.submit([encoder.finish()]);
    try {
      await copy.mapAsync(MODE_READ);
    } catch (cause) {
      // Browsers report a lost device after the failure of its work.
      await Promise.race([this.device.lost, new Promise((resolve) => setTimeout(resolve, LOSS_MILLISECONDS))]);
      this.check();
      throw new SdxsError("BACKEND_FAILURE", `A result could not be read from the GPU: ${String(cause)}`, { cause });
    }
    this.check();
    const bytes = copy.getMappedRange().slice(0, 4 * sizeOf(shape));
    copy.destroy();
    if (dtype === "float32") return new HostTensor(shape, new Float32Array(bytes));
    const whole = new Int32Array(bytes);
    return new HostTensor(shape, dtype === "int32" ? whole : Uint8Array.from(whole));
  }

  dispose(tensor: GpuTensor): void {
    if (this.live.delete(tensor)) this.give(tensor.buffer);
  }
}
