import * as tf from "@tensorflow/tfjs";
import { addNoise, gatherNoiseLevels, noiseSchedule } from "@sdxs/diffusion";
import {
  segmentedScoreDistillation,
  type Generator,
  type NetworkInputs,
  type ScoreFunction,
} from "@sdxs/one-step-trainer";
import { random, type StreamName } from "@sdxs/tensor";
import { tfjsOps } from "@sdxs/tensor/tfjs";

/** What the student is to make: points of a Gaussian, as samples [batch, 2, 1, 1]. */
export const target = { mean: [0.8, -0.5], deviation: [0.6, 0.3] };

const schedule = noiseSchedule();
const ops = tfjsOps(tf);
const seed = 1;
const batchSize = 128;
const teacherSteps = 300;
const studentSteps = 200;
/** With one, the online DM lags behind the student, whose mean swings around the target's by 0.2 on its way. */
const onlineUpdates = 2;

/** A layers model of two hidden layers, from so many numbers to a point. */
function perceptron(name: string, inputs: number): tf.LayersModel {
  const layer = (units: number, index: number, options: { inputShape?: [number]; activation?: "tanh" }) => {
    const [kernelSeed = 0] = random(seed, name, index).integers([1], 0, 1e6).data;
    return tf.layers.dense({
      units,
      kernelInitializer: tf.initializers.glorotNormal({ seed: kernelSeed }),
      ...options,
    });
  };
  return tf.sequential({
    layers: [
      layer(32, 0, { inputShape: [inputs], activation: "tanh" }),
      layer(32, 1, { activation: "tanh" }),
      layer(2, 2, {}),
    ],
  });
}

const apply = (model: tf.LayersModel, rows: tf.Tensor): tf.Tensor => model.apply(rows) as tf.Tensor;

/** The prediction of the clean point from x_t and t. */
function predict(model: tf.LayersModel, { sample, timestep }: Pick<NetworkInputs<tf.Tensor>, "sample" | "timestep">) {
  const told = tf.sub(tf.div(tf.reshape(timestep, [-1, 1]), schedule.trainSteps / 2), 1); // in [-1, 1]
  return tf.reshape(apply(model, tf.concat([tf.reshape(sample, [-1, 2]), told], 1)), sample.shape);
}

// Plug-ins are functions for any tensor type. A layers model knows tfjs's alone, so these run on `tfjsOps` alone.
const scoreOf =
  (model: tf.LayersModel): ScoreFunction =>
  (_ops, _p, inputs) =>
    predict(model, inputs as unknown as NetworkInputs<tf.Tensor>) as never;
const generatorOf =
  (model: tf.LayersModel): Generator =>
  (_ops, _p, inputs) => {
    const noise = inputs.noise as tf.Tensor;
    return tf.reshape(apply(model, tf.reshape(noise, [-1, 2])), noise.shape) as never;
  };

const normal = (...purpose: StreamName[]): tf.Tensor =>
  tf.tensor(random(seed, ...purpose).normal([batchSize, 2]).data, [batchSize, 2, 1, 1]);
const timesteps = (from: number, to: number, ...purpose: StreamName[]): tf.Tensor =>
  tf.tensor(Float32Array.from(random(seed, ...purpose).integers([batchSize], from, to).data));

/** One step of a tfjs optimiser on the weights of one model. */
function minimize(optimizer: tf.Optimizer, model: tf.LayersModel, loss: () => tf.Tensor): void {
  const variables = model.trainableWeights
    .map((weight) => weight.read())
    .filter((tensor) => tensor instanceof tf.Variable);
  tf.tidy(() => void optimizer.minimize(() => loss().asScalar(), false, variables));
}

/** Adam whose learning rate falls to 0 in so many steps. */
function fallingAdam(rate: number, steps: number, beta1?: number): (step: number) => tf.Optimizer {
  const optimizer = tf.train.adam(rate, beta1);
  // A member that the declared type hides.
  return (step) => Object.assign(optimizer, { learningRate: rate * (1 - step / steps) });
}

/** The teacher, a diffusion model that is trained on points of the target. */
function trainTeacher(): tf.LayersModel {
  const teacher = perceptron("teacher", 3);
  const adam = fallingAdam(1e-2, teacherSteps);
  for (let step = 0; step < teacherSteps; step++) {
    minimize(adam(step), teacher, () => {
      const [mean, deviation] = [target.mean, target.deviation].map((values) => tf.tensor(values, [1, 2, 1, 1]));
      const point = tf.add(tf.mul(normal("points", step), deviation!), mean!);
      const timestep = timesteps(0, schedule.trainSteps, "teacher timesteps", step);
      const noisy = addNoise(ops, point, normal("teacher noise", step), gatherNoiseLevels(ops, schedule, timestep));
      return tf.losses.meanSquaredError(point, predict(teacher, { sample: noisy, timestep }));
    });
  }
  return teacher;
}

/** Trains a student by Algorithm 1 and gives its points of `count` fresh noises, [count, 2]. */
export async function distil(count: number): Promise<tf.Tensor2D> {
  await tf.setBackend("cpu");
  const [student, online, teacher] = [perceptron("student", 2), perceptron("online", 3), trainTeacher()];
  online.setWeights(teacher.getWeights());

  const programs = segmentedScoreDistillation({
    student: generatorOf(student),
    onlineScore: scoreOf(online),
    offlineScore: scoreOf(teacher),
    features: (_ops, _p, { sample }) => [sample],
    featureLoss: "mse",
    prediction: "sample",
    schedule,
  });
  const context = tf.zeros([batchSize, 1, 1]); // no prompts
  const onlineAdam = tf.train.adam(3e-3);
  const studentAdam = fallingAdam(3e-3, studentSteps, 0.5);
  for (let step = 0; step < studentSteps; step++) {
    for (let update = 0; update < onlineUpdates; update++) {
      minimize(onlineAdam, online, () => {
        const timestep = timesteps(0, schedule.trainSteps, "online timesteps", step, update);
        const [noise, scoreNoise] = [normal("online", step, update), normal("online score", step, update)];
        return programs.online(ops, {}, { noise, context, scoreNoise, timestep }).loss;
      });
    }
    minimize(studentAdam(step), student, () => {
      const noise = normal("student", step);
      return programs.student(
        ops,
        {},
        {
          noise,
          context,
          scoreNoise: normal("student score", step),
          timestep: timesteps(20, schedule.trainSteps, "student timesteps", step),
          alpha: tf.scalar(1), // scores are compared everywhere, and features nowhere
          lambdaFM: tf.scalar(0),
          target: noise,
          featureTimestep: tf.zeros([batchSize]),
        },
      ).loss;
    });
  }
  return tf.tidy(
    () => apply(student, tf.tensor(random(seed, "test").normal([count, 2]).data, [count, 2])) as tf.Tensor2D,
  );
}
