import { random, type Backend, type Program } from "@sdxs/tensor";

/** Large enough to reach the processor's peak, small enough to take milliseconds. */
const MATRIX_SIDE = 2048;
/** 256 MB: far beyond the caches. */
const COPIED_FLOATS = 2 ** 26;
const REPETITIONS = 20;

/** The best rate of a square float32 matrix product on all cores, in GFLOP/s (a multiply-add is two). */
export async function matrixProductPeak<D>(backend: Backend<D>): Promise<number> {
  const side = MATRIX_SIDE;
  // The mean keeps the result from being copied out, which a benchmark of arithmetic should not time.
  const program: Program = (ops, _params, { a, b }) => ({ mean: ops.mean(ops.matmul(a!, b!)) });
  const spec = { shape: [side, side] };
  const compiled = await backend.compile(program, { inputs: { a: spec, b: spec } });
  const stream = random(0, "probe");
  const inputs = { a: stream.at("a").normal(spec.shape), b: stream.at("b").normal(spec.shape) };
  let least = Infinity;
  for (let repetition = 0; repetition < REPETITIONS; repetition++) {
    const begin = performance.now();
    const { mean } = await compiled.run({}, inputs);
    least = Math.min(least, performance.now() - begin);
    if (mean !== undefined) backend.dispose(mean);
  }
  await compiled.dispose();
  return (2 * side ** 3) / (least * 1e6);
}

/** The best rate of copying memory on one core, reads and writes counted, in GB/s. */
export function copyPeak(): number {
  const from = new Float32Array(COPIED_FLOATS).fill(1);
  const to = new Float32Array(COPIED_FLOATS);
  let least = Infinity;
  for (let repetition = 0; repetition < REPETITIONS; repetition++) {
    const begin = performance.now();
    to.set(from);
    least = Math.min(least, performance.now() - begin);
  }
  return (from.byteLength + to.byteLength) / (least * 1e6);
}
