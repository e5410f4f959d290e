import { noiseSchedule } from "@sdxs/diffusion";
import { segmentedScoreDistillationTask, type ExternalScore, type Generator } from "@sdxs/one-step-trainer";
import {
  HostTensor,
  constantSchedule,
  cosineSchedule,
  declareParameters,
  initialize,
  linearLayer,
  random,
  scope,
  type Backend,
  type Program,
} from "@sdxs/tensor";
import { train } from "@sdxs/training";
import { mixtureParameters, mixtureScore, type Component } from "../recipes/mixture/src/gaussian-mixture.js";

/** What the student is to make: points in two groups. */
export const target: readonly Component[] = [
  { weight: 0.6, mean: [-0.8, 0.3], deviation: 0.3 },
  { weight: 0.4, mean: [0.7, -0.5], deviation: 0.2 },
];

/** The teacher as a function over `Ops`: the exact score of the target. Its parameters are `mixtureParameters(target)`. */
export const schedule = noiseSchedule();
export const teacher = mixtureScore(schedule, target.length);

export const batchSize = 128;
const seed = 1;
const sampleShape = [2, 1, 1];
const contextShape = [1, 1]; // no prompts
const context = HostTensor.filled([batchSize, ...contextShape], 0);
const normal = (...purpose: (string | number)[]) => random(seed, ...purpose).normal([batchSize, ...sampleShape]);

/** A perceptron of two hidden layers, from the noise straight to the point. */
const generator: Generator = (ops, p, { noise }) => {
  let x = ops.reshape(noise, [-1, 2]);
  for (const layer of ["first", "second"]) x = ops.tanh(linearLayer(ops, p.at(layer), x, 48));
  return ops.reshape(linearLayer(ops, p.at("last"), x, 2), ops.shape(noise));
};

/** The online DM begins as the target with each group in several parts, which part as the student's points do. */
const onlineComponents: readonly Component[] = Array.from({ length: 12 }, (_, i) => {
  const { weight, mean, deviation } = target[i % 2]!;
  const [x = 0, y = 0] = random(seed, "online component", i).normal([2]).data;
  return { weight: weight / 6, mean: [mean[0] + 0.3 * x, mean[1] + 0.3 * y], deviation };
});

/** Trains a student on any backend, with a teacher of ours or one that runs elsewhere; gives its points of fresh noises. */
export async function distil<D>(
  backend: Backend<D>,
  offlineScore: typeof teacher | ExternalScore,
  steps: number,
): Promise<HostTensor> {
  const specs = { noise: { shape: [batchSize, ...sampleShape] }, context: { shape: context.shape } };
  const task = await segmentedScoreDistillationTask({
    name: "two groups",
    backend,
    seed,
    steps,
    batchSize,
    sampleShape,
    contextShape,
    student: generator,
    onlineScore: mixtureScore(schedule, onlineComponents.length),
    offlineScore,
    prediction: "sample",
    schedule,
    features: (_ops, _p, { sample }) => [sample],
    featureLoss: "mse",
    params: {
      student: initialize(
        declareParameters((ops, p, inputs) => generator(ops, p, inputs), specs),
        seed,
      ),
      online: mixtureParameters(onlineComponents),
      teacher: offlineScore === teacher ? mixtureParameters(target) : {},
    },
    pairs: (update) => ({ noise: normal("noise", update), target: normal("noise", update), context }),
    contexts: () => context,
    onlineUpdates: 3,
    alpha: constantSchedule(0.98), // scores are compared everywhere, and features nowhere
    lambdaFM: constantSchedule(0),
    optimisation: {
      student: {
        optimizer: { weightDecay: 0, emaDecay: 0.98 },
        learningRate: cosineSchedule({ rate: 5e-3, finalRate: 1e-5, totalSteps: steps }),
      },
      online: { optimizer: { weightDecay: 0 }, learningRate: constantSchedule(2e-2) },
    },
  });
  await train(task);
  const params = await task.weights("student", { averaged: true });
  await task.dispose();

  const program: Program<"noise" | "context", "points"> = (ops, given, inputs) => ({
    points: generator(ops, scope(ops, given), inputs),
  });
  const compiled = await backend.compile(program, { frozen: params, inputs: specs });
  const points = new Float32Array(8 * 2 * batchSize);
  for (let batch = 0; batch < 8; batch++) {
    const { points: made } = await compiled.run({}, { noise: normal("test", batch), context });
    points.set((await backend.download(made)).data, batch * 2 * batchSize);
    backend.dispose(made);
  }
  await compiled.dispose();
  return new HostTensor([8 * batchSize, ...sampleShape], points);
}
