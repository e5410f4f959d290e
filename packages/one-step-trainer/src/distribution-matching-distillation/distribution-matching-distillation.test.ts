import { noiseLevelAt, noiseSchedule } from "@sdxs/diffusion";
import type { Discriminator } from "@sdxs/losses/discriminators";
import { HostTensor, convLayer, random, withGradients, type HostParams, type Program } from "@sdxs/tensor";
import { maxAbs, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import {
  distributionMatchingDistillation,
  type DistributionMatchingDistillationOptions,
  type FeatureExtractor,
  type Generator,
  type ScoreFunction,
} from "../index.js";

// Samples of two channels and four pixels. Everything is linear: the student mixes the channels of its noise, both DMs predict
// the clean sample as the noisy one times a number for each channel, and so are the features and the classifier's logits.
const schedule = noiseSchedule();
const student: Generator = (ops, p, { noise }) => convLayer(ops, p.at("mix"), noise, 2, { kernel: 1 });
const times =
  (name: string): ScoreFunction =>
  (ops, p, { sample }) =>
    ops.mul(sample, p.param(name, [2, 1, 1], { kind: "constant", value: 1 }));
const features: FeatureExtractor = (ops, p, inputs) => [times("feature")(ops, p, inputs)];
const discriminator: Discriminator = (ops, p, [map]) =>
  ops.mul(map!, p.param("weight", [2, 1, 1], { kind: "constant", value: 1 }));
const options: DistributionMatchingDistillationOptions = {
  student,
  onlineScore: times("scale"),
  offlineScore: times("scale"),
  prediction: "sample",
  schedule,
  features,
  discriminator,
  lambdaGan: 0.3,
  classifierWeight: 0.2,
};

const W = [0.5, -1, 0.25, 0.75];
const bias = [0.1, -0.2];
const online = [0.9, 0.4];
const teacher = [0.3, 1.1];
const feature = [2, -0.5];
const weight = [0.4, 1.5];
const perChannel = (values: number[]) => HostTensor.from([2, 1, 1], values);
const params: HostParams = {
  "student.mix.weight": HostTensor.from([2, 2, 1, 1], W),
  "student.mix.bias": HostTensor.from([2], bias),
  "online.scale": perChannel(online),
  "online.feature": perChannel(feature),
  "online.classifier.weight": perChannel(weight),
  "teacher.scale": perChannel(teacher),
};
const shape = [2, 2, 2, 2];
const timesteps = [100, 700];
const ganTimesteps = [500, 20];
const shared = {
  noise: random(1).normal(shape),
  context: HostTensor.filled([2, 1, 1], 0),
  scoreNoise: random(2).normal(shape),
  timestep: HostTensor.from([2], timesteps),
};
const ofOnline = { ...shared, real: random(3).normal(shape), realNoise: random(4).normal(shape) };
const ofStudent = { ...shared, ganNoise: random(5).normal(shape), ganTimestep: HostTensor.from([2], ganTimesteps) };

// The same in float64. An element's index tells its sample and channel.
const sampleOf = (i: number) => i >> 3;
const channelOf = (i: number) => (i >> 2) & 1;
const z = (sample: number, channel: number, i: number) => shared.noise.data[8 * sample + 4 * channel + (i & 3)]!;
const made = Array.from({ length: 16 }, (_, i) => {
  const [sample, o] = [sampleOf(i), channelOf(i)];
  return W[2 * o]! * z(sample, 0, i) + W[2 * o + 1]! * z(sample, 1, i) + bias[o]!;
});
const noisy = (clean: ArrayLike<number>, { data }: HostTensor, at: readonly number[]): number[] =>
  Array.from(clean, (value, i) => {
    const { alpha, sigma } = noiseLevelAt(schedule, at[sampleOf(i)]!);
    return alpha * value + sigma * data[i]!;
  });
const scaled = (values: readonly number[], ...factors: readonly number[][]): number[] =>
  values.map((value, i) => factors.reduce((product, factor) => product * factor[channelOf(i)]!, value));
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const perChannelSum = (values: readonly number[]): number[] =>
  [0, 1].map((c) => values.reduce((sum, value, i) => (channelOf(i) === c ? sum + value : sum), 0));
const softplus = (x: number): number => Math.log(1 + Math.exp(x));
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

const seen = noisy(made, shared.scoreNoise, timesteps);
const fake = scaled(seen, feature);
const real = scaled(noisy(ofOnline.real.data, ofOnline.realNoise, timesteps), feature);
const judged = scaled(noisy(made, ofStudent.ganNoise, ganTimesteps), feature, weight);

function expectValues(actual: HostTensor | undefined, expected: readonly number[]): void {
  expect(actual?.data).toHaveLength(expected.length);
  expected.forEach((value, i) => expect(actual!.data[i]).toBeCloseTo(value, 5));
}

describe.each(testBackends)("distribution matching distillation on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });
  const programs = distributionMatchingDistillation(options);
  const gradients = (program: Program, names: readonly string[], inputs: Readonly<Record<string, HostTensor>>) =>
    run(withGradients(program, names), params, inputs);

  it("trains the online DM by Equation 1, and its classifier on real and generated samples under noise", async () => {
    const names = ["online.scale", "online.feature", "online.classifier.weight"];
    const outputs = await gradients(programs.online, names, ofOnline);
    const errors = scaled(seen, online).map((value, i) => value - made[i]!);
    const denoising = mean(errors.map((value) => value ** 2));
    const [realLogits, fakeLogits] = [scaled(real, weight), scaled(fake, weight)];
    const adversarial = mean(realLogits.map((x) => softplus(-x))) + mean(fakeLogits.map(softplus));
    expect(outputs["denoising"]!.item()).toBeCloseTo(denoising, 5);
    expect(outputs["adversarial"]!.item()).toBeCloseTo(adversarial, 5);
    expect(outputs["loss"]!.item()).toBeCloseTo(denoising + 0.2 * adversarial, 5);
    expect(outputs["realLogit"]!.item()).toBeCloseTo(mean(realLogits), 5);
    expect(outputs["fakeLogit"]!.item()).toBeCloseTo(mean(fakeLogits), 5);

    expectValues(outputs["grad.online.scale"], perChannelSum(errors.map((value, i) => (2 * value * seen[i]!) / 16)));
    const byLogit = {
      real: realLogits.map((x) => (-0.2 * sigmoid(-x)) / 16),
      fake: fakeLogits.map((x) => (0.2 * sigmoid(x)) / 16),
    };
    const byWeight = perChannelSum(real.map((value, i) => byLogit.real[i]! * value + byLogit.fake[i]! * fake[i]!));
    expectValues(outputs["grad.online.classifier.weight"], byWeight);
    // A logit is linear in both, so their gradients times their values are equal.
    expectValues(
      outputs["grad.online.feature"],
      byWeight.map((value, c) => (value * weight[c]!) / feature[c]!),
    );
  });

  it("trains the student by DMD's score difference and the GAN loss", async () => {
    const outputs = await gradients(programs.student, ["student.mix.weight"], ofStudent);
    const [onlineSample, offlineSample] = [scaled(seen, online), scaled(seen, teacher)];
    const distances = made.map((value, i) => Math.abs(value - offlineSample[i]!));
    const byScore = onlineSample.map((value, i) => {
      const own = distances.filter((_, k) => sampleOf(k) === sampleOf(i));
      return (value - offlineSample[i]!) / mean(own) / 8;
    });
    const byGan = scaled(
      judged.map((x, i) => (-sigmoid(-x) * noiseLevelAt(schedule, ganTimesteps[sampleOf(i)]!).alpha) / 8),
      feature,
      weight,
    );
    const adversarial = mean(judged.map((x) => softplus(-x)));
    const halfSquares = mean(byScore.map((value) => (8 * value) ** 2)) / 2;
    expectValues(outputs["sample"], made);
    expectValues(outputs["onlineSample"], onlineSample);
    expectValues(outputs["offlineSample"], offlineSample);
    expect(outputs["adversarial"]!.item()).toBeCloseTo(adversarial, 5);
    expect(outputs["loss"]!.item()).toBeCloseTo(halfSquares + 0.3 * adversarial, 4);
    const gap = onlineSample.map((value, i) => Math.abs(value - offlineSample[i]!));
    expect(outputs["scoreGap"]!.item()).toBeCloseTo(mean(gap) / mean(distances), 5);
    const norm = (values: readonly number[]) =>
      mean([0, 1].map((sample) => Math.hypot(...values.filter((_, i) => sampleOf(i) === sample))));
    expect(outputs["scoreGradientNorm"]!.item()).toBeCloseTo(norm(byScore), 5);
    expect(outputs["adversarialGradientNorm"]!.item()).toBeCloseTo(norm(byGan), 5);

    const bySample = byScore.map((value, i) => (value + 0.3 * byGan[i]!) / 2);
    const byMix = [0, 1].flatMap((o) =>
      [0, 1].map((input) =>
        bySample.reduce((sum, value, i) => (channelOf(i) === o ? sum + value * z(sampleOf(i), input, i) : sum), 0),
      ),
    );
    expectValues(outputs["grad.student.mix.weight"], byMix);
  });

  it("trains the student alone, and the online DM alone", async () => {
    const ofOthers = await gradients(programs.student, ["online.scale", "online.classifier.weight"], ofStudent);
    expect(maxAbs(ofOthers["grad.online.scale"]!)).toBe(0);
    expect(maxAbs(ofOthers["grad.online.classifier.weight"]!)).toBe(0);
    const ofStudents = await gradients(programs.online, ["student.mix.weight"], ofOnline);
    expect(maxAbs(ofStudents["grad.student.mix.weight"]!)).toBe(0);
  });

  it("tells how much samples vary beside the real ones", async () => {
    const real = HostTensor.from(shape, made);
    expect((await run(programs.online, params, { ...ofOnline, real })).spread.item()).toBeCloseTo(1, 4);
  });

  it("refuses real samples of another shape", async () => {
    const narrow = { ...ofOnline, real: HostTensor.filled([2, 2, 2, 1], 0) };
    await expect(run(programs.online, params, narrow)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
  });
});
