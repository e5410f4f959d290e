/** WebGPU's alignment of a binding's offset in its buffer, on any device. */
export const ALIGNMENT = 256;

/** Limits of a device that passes depend on. */
export interface PassLimits {
  /** Buffers that a kernel may read. */
  readonly maxBuffers: number;
  /** Bytes that a kernel can be given in one binding. */
  readonly maxTensorBytes: number;
  readonly maxBufferBytes: number;
}
