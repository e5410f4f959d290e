import { MissingPackageError } from "@sdxs/tensor";
import { disableTelemetry } from "@sdxs/tensor/onnx";

/**
 * onnxruntime-node, with its telemetry switched off.
 *
 * @throws MissingPackageError where it is not installed.
 */
export async function importOnnxRuntime() {
  disableTelemetry();
  try {
    return await import("onnxruntime-node");
  } catch (cause) {
    throw new MissingPackageError("onnxruntime-node", "sdxs", { cause });
  }
}
