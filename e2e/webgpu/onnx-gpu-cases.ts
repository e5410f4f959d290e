import type { Tensor, TensorConstructor } from "onnxruntime-web";
import { HostTensor, type Program } from "@sdxs/tensor";
import type { ConformanceCase, Finding } from "@sdxs/tensor/conformance";
import type { GpuUnderTest } from "./gpu-cases.js";

/** What is particular to onnxruntime's tensors on a GPU. */
export function onnxGpuCases({ start, device }: GpuUnderTest, tensor: TensorConstructor): readonly ConformanceCase[] {
  const moved: Program<"x", "y"> = (ops, { w }, { x }) => ({ y: ops.add(ops.mul(x, 2), w ?? 0) });
  const specs = { params: { w: { shape: [2] } }, inputs: { x: { shape: [2] } } };
  return [
    {
      name: "GPU: takes a tensor that lies in a buffer of the caller's, and leaves it there",
      async check() {
        const backend = await start();
        const compiled = await backend.compile(moved, specs);
        const gpu = await device();
        const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
        const gpuBuffer = gpu.createBuffer({ size: 16, usage });
        gpu.queue.writeBuffer(gpuBuffer, 0, Float32Array.of(3, 5));
        const x = tensor.fromGpuBuffer(gpuBuffer, { dataType: "float32", dims: [2] });
        const { y } = await compiled.run({ w: HostTensor.from([2], [10, 20]) }, { x });
        const result = await backend.download(y);
        const there = x.location === "gpu-buffer";
        backend.dispose(y);
        await compiled.dispose();
        gpuBuffer.destroy();
        return same(result.data.join(), "16,30") ?? same(String(there), "true") ?? passed;
      },
    },
    {
      name: "GPU: parameters in training and their gradients stay on the GPU, whatever is downloaded",
      async check() {
        const backend = await start();
        const trainable = backend.trainable({ w: HostTensor.from([2], [1, 2]) }, { emaDecay: 0.5 });
        const compiled = await backend.compile(moved, specs);
        const locations: string[] = [];
        for (let i = 0; i < 2; i++) {
          const { y } = await compiled.run(trainable.params, { x: HostTensor.from([2], [1, 1]) });
          locations.push((y as Tensor).location);
          trainable.accumulate({ w: y });
          await trainable.step({ learningRate: 0.1 });
          await trainable.state();
          for (const { w } of [trainable.params, trainable.averaged ?? {}]) locations.push((w as Tensor).location);
        }
        const { tensors } = backend.memory();
        trainable.dispose();
        await compiled.dispose();
        const left = backend.memory().tensors;
        // The parameter, its two moments and its average.
        return same(`${[...new Set(locations)].join()} ${tensors - left}`, "gpu-buffer 4") ?? passed;
      },
    },
  ];
}

const passed: Finding = { worstError: 0, tolerance: 0, message: "" };

function same(actual: string, expected: string): Finding | undefined {
  if (actual === expected) return undefined;
  return { worstError: Infinity, tolerance: 0, message: `expected ${expected}, got ${actual}` };
}
