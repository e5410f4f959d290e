import { SdxsError, type HostTensor, type TensorMap } from "@sdxs/tensor";

/** Names of the tensors that hold a NaN or an infinity, in their order, at most `limit` of them. */
export function nonFiniteNames(tensors: TensorMap<HostTensor>, limit = Infinity): string[] {
  const names: string[] = [];
  for (const [name, { data }] of Object.entries(tensors)) {
    if (names.length >= limit) break;
    if (!data.every(Number.isFinite)) names.push(name);
  }
  return names;
}

/** The step at which training met a NaN or an infinity, with code NON_FINITE and the tensors' names. */
export class NonFiniteError extends SdxsError {
  /** Index of the step, 0 for the first. */
  readonly step: number;
  /** Tensors that are not finite, as ["loss", "input.images"] or ["grad.conv_in.weight"]. */
  readonly tensors: readonly string[];

  constructor(step: number, tensors: readonly string[], advice: string) {
    super(
      "NON_FINITE",
      `Step ${step}: every number must be finite, got a NaN or an infinity in ${tensors.join(", ")}. ` +
        `The step did not change the parameters. ${advice}`,
    );
    this.step = step;
    this.tensors = tensors;
  }
}
