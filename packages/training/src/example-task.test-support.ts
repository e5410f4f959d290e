import {
  HostTensor,
  constantSchedule,
  initialize,
  random,
  uniform,
  type Backend,
  type Program,
  type TensorMap,
} from "@sdxs/tensor";
import { gradientTask, type GradientTask, type GradientTaskOptions } from "./gradient-task.js";

/** Samples of one micro-batch. */
export const BATCH = 4;

/** A convolution, a ReLU and a linear layer that learn the mean absolute value of a noise image, about 0.8. */
export const exampleProgram: Program<"image"> = (ops, params, { image }) => {
  const features = ops.relu(ops.conv2d(image, params.kernel!, undefined, { padding: 1 }));
  const rows = ops.reshape(features, [ops.shape(image)[0]!, -1]); // [batch, 8 * 8 * 8]
  const prediction = ops.add(ops.matmul(rows, params.weight!), params.bias!);
  const truth = ops.mean(ops.abs(image), { axes: [1, 2, 3], keepDims: true });
  const errors = ops.sub(prediction, ops.reshape(truth, ops.shape(prediction)));
  return { loss: ops.mean(ops.square(errors)), absoluteError: ops.mean(ops.abs(errors)), prediction };
};

export const exampleParams: TensorMap<HostTensor> = initialize(
  {
    kernel: { shape: [8, 3, 3, 3], init: uniform(0.2) },
    weight: { shape: [512, 1], init: uniform(0.05) },
    bias: { shape: [1], init: uniform(0.1) },
  },
  7,
);

/** Images of micro-batch `microBatch` of a step, `count` micro-batches joined. */
export const exampleImages = (step: number, microBatch: number, count = 1): HostTensor => {
  const parts = Array.from({ length: count }, (_, index) =>
    random(11, "images", step, microBatch + index).normal([BATCH, 3, 8, 8]),
  );
  return HostTensor.from(
    [BATCH * count, 3, 8, 8],
    parts.flatMap(({ data }) => [...data]),
  );
};

export function exampleTask<D>(
  backend: Backend<D>,
  options: Partial<GradientTaskOptions<D, "image">> = {},
): Promise<GradientTask> {
  return gradientTask<D, "image">({
    name: "example",
    backend,
    program: exampleProgram,
    params: exampleParams,
    inputs: { image: { shape: [BATCH, 3, 8, 8] } },
    batch: (step, microBatch) => ({ image: exampleImages(step, microBatch) }),
    optimizer: { emaDecay: 0.9, clipNorm: 1 },
    learningRate: constantSchedule(0.01),
    steps: 20,
    ...options,
  });
}
