/** AdamW reads parameter, gradient and both moments and writes back all but the gradient: seven float32 each. */
export function adamWBytes(parameters: number): number {
  return 7 * Float32Array.BYTES_PER_ELEMENT * parameters;
}
