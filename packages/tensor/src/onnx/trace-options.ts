import type { LoweringOptions } from "./lowering.js";

export interface TraceOptions extends LoweringOptions {
  /** Refuse tensors of more bytes. Default: none. */
  readonly maxTensorBytes?: number;
  /**
   * float16 halves what is stored: frozen weights of 1 kB and more become float16, and everything is computed in float32.
   * Default "float32".
   */
  readonly weights?: "float32" | "float16";
}
