import type { Ops } from "@sdxs/tensor";

/**
 * The standard deviation of samples over the batch relative to that of others, shape []: near 0 where all samples have
 * collapsed to one.
 */
export function spread<T>(ops: Ops<T>, sample: T, others: T): T {
  return ops.sqrt(ops.div(variance(ops, sample), variance(ops, others)));
}

/**
 * The mean distance of two predictions of the sample relative to that of the sample from the offline one, shape []: near 0
 * where the student's distribution is the teacher's.
 */
export function scoreGap<T>(
  ops: Ops<T>,
  sample: T,
  { onlineSample, offlineSample }: { readonly onlineSample: T; readonly offlineSample: T },
): T {
  return ops.div(meanDistance(ops, onlineSample, offlineSample), meanDistance(ops, sample, offlineSample));
}

function meanDistance<T>(ops: Ops<T>, a: T, b: T): T {
  return ops.mean(ops.abs(ops.sub(a, b)));
}

/** Mean over all elements of the variance over the batch; not quite 0, so that batches of one compare as equal. */
function variance<T>(ops: Ops<T>, x: T): T {
  const deviation = ops.sub(x, ops.mean(x, { axes: [0], keepDims: true }));
  return ops.add(ops.mean(ops.square(deviation)), 1e-12);
}
