import type { TensorConstructor } from "onnxruntime-web";
import type { Backend } from "@sdxs/tensor";
import { conformanceCases, fromBackend, runCase, type ConformanceResult } from "@sdxs/tensor/conformance";
import { gpuCases } from "./gpu-cases.js";
import { largeCases } from "./large-cases.js";
import { onnxGpuCases } from "./onnx-gpu-cases.js";
import { unetCases, type ReadFixture } from "./unet-cases.js";

export interface BackendUnderTest {
  /** A new backend, on the GPU device that there is or, once that is lost, on another. */
  readonly start: () => Promise<Backend<unknown>>;
  /** The GPU device of the backend that was started last, where JavaScript has access to it. */
  readonly device?: () => Promise<GPUDevice>;
  /** onnxruntime's tensors, where they may lie on the GPU. */
  readonly tensors?: TensorConstructor;
  /** Whether a library's own kernels compute exponentials on WebGPU, with what the driver makes of NaN. */
  readonly isLibrarys?: boolean;
}

/** SwiftShader's exponentials and logarithms make numbers of NaN. */
const driversOwn = /^NaN and infinities pass (exponentials|softmax)/;

export interface Suite {
  readonly names: readonly string[];
  readonly run: (name: string) => Promise<ConformanceResult>;
}

/** All that is checked of a backend: the conformance suite, a whole U-Net and, on a GPU, what goes wrong there. */
export function suite(read: ReadFixture, { start, device, tensors, isLibrarys = false }: BackendUnderTest): Suite {
  const cases = [
    ...conformanceCases().filter(({ name }) => !isLibrarys || !driversOwn.test(name)),
    ...unetCases(read),
    ...largeCases(),
    ...(device && tensors ? onnxGpuCases({ start, device }, tensors) : []),
    ...(device ? gpuCases({ start, device }) : []),
  ];
  let adapter: ReturnType<typeof adapt> | undefined;
  const adapt = async () => fromBackend(await start());
  return {
    names: cases.map(({ name }) => name),
    async run(name) {
      const one = cases.find((candidate) => candidate.name === name);
      if (!one) throw new Error(`There is no case "${name}".`);
      adapter ??= adapt();
      return runCase(await adapter, one);
    },
  };
}

/**
 * Enough for a slow device: the value and the gradient of each operation once, one U-Net, and all that is not of an
 * operation.
 */
export function essential(names: readonly string[]): readonly string[] {
  const seen = new Set<string>();
  return names.filter((name) => {
    // "value of conv2d of [1, 2, 3, 3] with ..." and "value of conv2d of [2, 3, ..." are the value of one operation.
    const [, kind, operation] = /^(value|gradient|second derivative) of (\w+)/.exec(name) ?? [];
    const key = kind === undefined ? name : `${kind} of ${operation}`;
    const isNew = !seen.has(key);
    seen.add(key);
    return isNew && kind !== "second derivative" && !name.startsWith("a U-Net learns");
  });
}
