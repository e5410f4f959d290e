/** WebGPU's limit for where a binding begins in its buffer, on any device. */
export const ALIGNMENT = 256;

/** What a device allows, as far as passes depend on it. */
export interface PassLimits {
  /** Buffers that a kernel may read. */
  readonly maxBuffers: number;
  /** Bytes that a kernel can be given in one binding. */
  readonly maxTensorBytes: number;
  readonly maxBufferBytes: number;
}
