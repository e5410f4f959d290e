import type { HostData } from "../core/host-tensor.js";
import type { WebgpuBuffer } from "../core/platform.js";

/** The part of onnxruntime's `Tensor` that is used. */
export interface OnnxTensor {
  readonly type: string;
  readonly dims: readonly number[];
  /** Its memory, as "cpu" or "gpu-buffer". */
  readonly location: string;
  /** Its elements, in host memory. */
  readonly data: unknown;
  readonly gpuBuffer: WebgpuBuffer;
  getData(): Promise<unknown>;
  reshape(dims: readonly number[]): OnnxTensor;
  dispose(): void;
}

/** The part of onnxruntime's `InferenceSession` that is used. */
export interface OnnxSession {
  run(feeds: OnnxTensors): Promise<OnnxTensors>;
  // eslint-disable-next-line @typescript-eslint/unified-signatures -- onnxruntime's own signatures take no undefined here
  run(feeds: OnnxTensors, fetches: readonly string[]): Promise<OnnxTensors>;
  release(): Promise<void>;
}

export type OnnxTensors = Readonly<Record<string, OnnxTensor>>;

export interface GpuBufferOptions {
  readonly dataType: "float32" | "int32" | "bool";
  readonly dims: readonly number[];
  readonly download: () => Promise<never>;
  readonly dispose: () => void;
}

/** What the adapter uses of onnxruntime: the module `onnxruntime-node` or `onnxruntime-web` itself. */
export interface OnnxRuntime {
  readonly InferenceSession: {
    create(model: Uint8Array, options?: object): Promise<OnnxSession>;
  };
  readonly Tensor: {
    new (type: "float32" | "int32" | "bool", data: HostData, dims: readonly number[]): OnnxTensor;
    fromGpuBuffer?(buffer: WebgpuBuffer, options: GpuBufferOptions): OnnxTensor;
  };
  /** Of onnxruntime-web: `env.webgpu.device` is the device, once there is a session. */
  readonly env?: { readonly webgpu: object };
  /** Only onnxruntime-node has this. */
  readonly listSupportedBackends?: unknown;
}
