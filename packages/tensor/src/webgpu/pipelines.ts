import { SdxsError } from "../core/errors.js";
import { watchDevice } from "../core/gpu-device.js";
import type { Kernel } from "./kernels/kernel.js";

/** Compiled shaders by their code: equal layers share one. */
export class Pipelines {
  private readonly known = new Map<string, Promise<GPUComputePipeline>>();

  constructor(private readonly device: GPUDevice) {}

  get({ code, label }: Pick<Kernel, "code" | "label">): Promise<GPUComputePipeline> {
    const pipeline = this.known.get(code) ?? this.compile(code, label);
    this.known.set(code, pipeline);
    return pipeline;
  }

  private async compile(code: string, label: string): Promise<GPUComputePipeline> {
    const { device } = this;
    const module = device.createShaderModule({ code, label });
    try {
      return await device.createComputePipelineAsync({ layout: "auto", compute: { module, entryPoint: "main" } });
    } catch (cause) {
      this.known.delete(code);
      watchDevice(device).check();
      throw new SdxsError("BACKEND_FAILURE", `WebGPU refused the kernel "${label}": ${String(cause)}`, { cause });
    }
  }
}
