import type { ExternalScore } from "@sdxs/one-step-trainer";
import { HostTensor } from "@sdxs/tensor";
import { disableTelemetry } from "@sdxs/tensor/onnx";
import { InferenceSession, Tensor } from "onnxruntime-node";

/**
 * A teacher that is only an ONNX file, with the inputs "sample" [batch, channels, height, width], "timestep" [batch] and
 * "context" [batch, tokens, features] and the output "prediction", shaped as "sample".
 */
export async function onnxScore(path: string): Promise<ExternalScore> {
  disableTelemetry();
  const session = await InferenceSession.create(path);
  const toTensor = ({ shape, data }: HostTensor) => new Tensor("float32", data as Float32Array, shape);
  return {
    async predict({ sample, timestep, context }) {
      const feeds = { sample: toTensor(sample), timestep: toTensor(timestep), context: toTensor(context) };
      const { prediction } = await session.run(feeds);
      return new HostTensor(sample.shape, Float32Array.from(prediction!.data as Float32Array));
    },
  };
}
