import { watchDevice } from "../gpu-device.js";
import { SdxsError } from "../errors.js";
import { encodeFloat16 } from "../half.js";
import { HostTensor, sizeOf, type DType, type HostData, type Shape } from "../host-tensor.js";
import { FULL, type Storage } from "./shader.js";

// WebGPU's own numbers, which Node does not have as globals.
const MAP_READ = 1;
const COPY_SRC = 4;
const COPY_DST = 8;
const STORAGE = 128;
const MODE_READ = 1;

/** Buffers that no tensor uses are kept for the next ones up to so many bytes in all: chosen. */
const KEPT_BYTES = 2 ** 29;

/** A tensor in a GPU's memory. */
export interface GpuTensor {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly buffer: GPUBuffer;
}

/** A device's buffers: those of tensors, which are counted, and those that are free. */
export class GpuMemory {
  private readonly live = new Map<GpuTensor, number>();
  private readonly free = new Map<number, GPUBuffer[]>();
  private freeBytes = 0;

  constructor(readonly device: GPUDevice) {}

  /** Throws what went wrong on the GPU. */
  check(): void {
    watchDevice(this.device).check();
  }

  counts(): { readonly tensors: number; readonly bytes: number } {
    return { tensors: this.live.size, bytes: [...this.live.values()].reduce((sum, bytes) => sum + bytes, 0) };
  }

  /** A buffer for storage whose content is undefined. */
  take(bytes: number): GPUBuffer {
    const kept = this.free.get(bytes)?.pop();
    if (kept) {
      this.freeBytes -= bytes;
      return kept;
    }
    return this.device.createBuffer({ size: bytes, usage: STORAGE | COPY_SRC | COPY_DST });
  }

  /** Gives back a buffer of `take`. What is under way still reads it: later work waits for that. */
  give(buffer: GPUBuffer): void {
    if (this.freeBytes + buffer.size > KEPT_BYTES) {
      buffer.destroy();
      return;
    }
    this.freeBytes += buffer.size;
    const kept = this.free.get(buffer.size);
    if (kept) kept.push(buffer);
    else this.free.set(buffer.size, [buffer]);
  }

  /** A tensor whose elements are to be written. */
  tensor(shape: Shape, dtype: DType): GpuTensor {
    const bytes = Math.max(4, 4 * sizeOf(shape));
    const tensor = { shape: [...shape], dtype, buffer: this.take(bytes) };
    this.live.set(tensor, bytes);
    return tensor;
  }

  upload({ shape, dtype, data }: HostTensor): GpuTensor {
    const tensor = this.tensor(shape, dtype);
    this.write(tensor.buffer, data, FULL[dtype]);
    return tensor;
  }

  /** Writes elements in the form in which kernels read them. */
  write(buffer: GPUBuffer, data: HostData, storage: Storage): void {
    if (data.length === 0) return;
    if (storage === "f16") {
      const half = encodeFloat16(data as Float32Array);
      const even = half.length % 2 === 0 ? half : Uint16Array.from({ length: half.length + 1 }, (_, i) => half[i] ?? 0);
      this.device.queue.writeBuffer(buffer, 0, even);
      return;
    }
    this.device.queue.writeBuffer(buffer, 0, data instanceof Uint8Array ? Uint32Array.from(data) : data);
  }

  async download({ shape, dtype, buffer }: GpuTensor): Promise<HostTensor> {
    this.check();
    const { size } = buffer;
    const copy = this.device.createBuffer({ size, usage: MAP_READ | COPY_DST });
    const encoder = this.device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, copy, 0, size);
    this.device.queue.submit([encoder.finish()]);
    try {
      await copy.mapAsync(MODE_READ);
    } catch (cause) {
      // A lost device is told apart.
      this.check();
      await new Promise((resolve) => setTimeout(resolve));
      this.check();
      throw new SdxsError("BACKEND_FAILURE", `The GPU did not hand out a result: ${String(cause)}`, { cause });
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
