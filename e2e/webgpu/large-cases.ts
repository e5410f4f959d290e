import {
  attention,
  groupNorm,
  mapTensors,
  random,
  silu,
  type HostTensor,
  type Ops,
  type TensorMap,
} from "@sdxs/tensor";
import type { ConformanceCase, Finding } from "@sdxs/tensor/conformance";
import { fromHost, referenceOps, toHost } from "@sdxs/tensor/reference";

const normal = (name: string, ...shape: number[]): HostTensor => random(7, name).normal(shape);

/** What is large enough for kernels to share it out. */
const weights = {
  kernel: normal("kernel", 8, 256, 3, 3),
  bias: normal("bias", 8),
  matrix: normal("matrix", 3, 2304),
  scale: normal("scale", 8),
  shift: normal("shift", 8),
};
const inputs = {
  image: normal("image", 1, 256, 4, 4),
  rows: normal("rows", 5, 2304),
  wide: normal("wide", 1, 8, 48, 32),
  queries: normal("queries", 1, 2, 40, 16),
  keys: normal("keys", 1, 2, 72, 16),
};

function program<T>(ops: Ops<T>, params: TensorMap<T>, given: TensorMap<T>): Record<string, T> {
  const { kernel, bias, matrix, scale, shift } = params as Record<keyof typeof weights, T>;
  const { image, rows, wide, queries, keys } = given as Record<keyof typeof inputs, T>;
  return {
    convolved: ops.mul(silu(ops, ops.conv2d(image, kernel, bias, { padding: 1 })), 0.02),
    product: ops.mul(ops.matmul(rows, matrix, { transposeB: true }), 0.02),
    normed: silu(ops, groupNorm(ops, wide, 2, scale, shift, 1e-5)),
    attended: attention(ops, queries, keys, keys, 0.25),
  };
}

/** Sums over thousands of elements, norms of long rows and attention, against the reference; in float16 too where a GPU has it. */
export function largeCases(): readonly ConformanceCase[] {
  const expected = mapTensors(
    program(referenceOps, mapTensors(weights, fromHost), mapTensors(inputs, fromHost)),
    toHost,
  );
  const check = (precision: "float32" | "float16", tolerance: number): ConformanceCase => ({
    name: `GPU: long sums, long norms and attention in ${precision}`,
    async check({ backend }) {
      if (backend === undefined) return { worstError: 0, tolerance: 0, message: "" };
      const spec = { inputs: mapTensors(inputs, ({ shape }) => ({ shape })), frozen: weights, precision };
      const compiled = await backend.compile(program, spec).catch((error: unknown) => {
        if ((error as { readonly code?: string }).code !== "UNSUPPORTED_OPERATION") throw error;
      });
      if (compiled === undefined) return { worstError: 0, tolerance: 0, message: "" };
      const results = await compiled.run({}, inputs);
      let worst: Finding = { worstError: 0, tolerance, message: "" };
      for (const [name, result] of Object.entries(results)) {
        const { data } = await backend.download(result);
        backend.dispose(result);
        const want = [...expected[name]!.data];
        const largest = want.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
        const error = want.reduce((most, value, i) => Math.max(most, Math.abs(value - data[i]!) / largest), 0);
        if (!(error <= worst.worstError)) worst = { worstError: error, tolerance, message: `${name} is ${error} off` };
      }
      await compiled.dispose();
      return worst;
    },
  });
  return [check("float32", 1e-5), check("float16", 5e-3)];
}
