import { sizeOf, type HostData, type Shape } from "../core/host-tensor.js";
import type { OnnxRuntime, OnnxTensor } from "./onnxruntime.js";

/**
 * The results in GPU buffers. Each is returned as one or more views with a shape each, which onnxruntime's
 * tensors do not offer where they own a buffer. It is freed with the last of them.
 */
export class DeviceTensors {
  private readonly live = new Set<OnnxTensor>();
  private readonly sources = new WeakMap<OnnxTensor, OnnxTensor>();

  constructor(private readonly fromGpuBuffer: NonNullable<OnnxRuntime["Tensor"]["fromGpuBuffer"]>) {}

  /** Views of one result, one per shape. */
  views(source: OnnxTensor, shapes: readonly Shape[]): OnnxTensor[] {
    this.live.add(source);
    let left = shapes.length;
    return shapes.map((shape) => {
      const view = this.fromGpuBuffer(source.gpuBuffer, {
        dataType: source.type as "float32",
        dims: [...shape],
        download: () => source.getData() as Promise<never>,
        dispose: () => {
          left -= 1;
          if (left > 0) return;
          this.live.delete(source);
          source.dispose();
        },
      });
      this.sources.set(view, source);
      return view;
    });
  }

  /** A copy of a tensor's elements. The tensor stays where it is. */
  async read(tensor: OnnxTensor): Promise<HostData> {
    return ((await (this.sources.get(tensor) ?? tensor).getData()) as HostData).slice();
  }

  memory(): { readonly tensors: number; readonly bytes: number } {
    let bytes = 0;
    for (const { dims, type } of this.live) bytes += (type === "bool" ? 1 : 4) * sizeOf(dims);
    return { tensors: this.live.size, bytes };
  }
}
