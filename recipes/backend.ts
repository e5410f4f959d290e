import { MissingPackageError, type Backend } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { DAWN_FEATURES, requestGpuDevice, webgpuBackend } from "@sdxs/tensor/webgpu";

/** What computes a run. */
export interface BackendOptions {
  /** Whether the GPU does, instead of the processor. */
  readonly gpu: boolean;
  /** Threads of the processor; 1 loses least where other programs use it too. Default: onnxruntime's own. */
  readonly threads?: number | undefined;
}

/**
 * The processor by onnxruntime, or the GPU by WebGPU, in float32.
 *
 * @throws MissingPackageError where onnxruntime-node or webgpu is not installed; SdxsError with code BACKEND_FAILURE where there
 * is no GPU.
 */
export async function openBackend({ gpu, threads }: BackendOptions): Promise<Backend<unknown>> {
  if (!gpu) return onnxBackend({ ort: await importOnnxRuntime(), ...(threads !== undefined && { threads }) });
  const { create } = await importWebgpu();
  // Without measured tiles, a run that is resumed goes on bit for bit as it would have.
  return webgpuBackend({ device: await requestGpuDevice(create([DAWN_FEATURES])), autotune: false });
}

async function importOnnxRuntime() {
  try {
    return await import("onnxruntime-node");
  } catch (cause) {
    throw new MissingPackageError("onnxruntime-node", "The recipe", { cause });
  }
}

async function importWebgpu() {
  try {
    return await import("webgpu");
  } catch (cause) {
    throw new MissingPackageError("webgpu", "--gpu", { cause });
  }
}
