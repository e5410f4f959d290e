import { HostTensor, convLayer, random, withGradients, type HostParams } from "@sdxs/tensor";
import { maxAbs, slopeAlongGradient, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import type { Discriminator } from "@sdxs/losses/discriminators";
import { beforeAll, describe, expect, it } from "vitest";
import { textureFinetune, type FeatureExtractor, type Generator, type TextureFinetuneOptions } from "../index.js";

// Samples of two channels and four pixels, by a student that is one matrix for each pixel, with a LoRA of rank 1; one map of
// features, each channel times a number; logits that are each value of the map times another.
const student: Generator = (ops, p, { noise }) => convLayer(ops, p.at("mix"), noise, 2, { kernel: 1 });
const features: FeatureExtractor = (ops, p, { sample }) => [
  ops.mul(sample, p.param("scale", [2, 1, 1], { kind: "constant", value: 1 })),
];
const discriminator: Discriminator = (ops, p, [map]) =>
  ops.mul(map!, p.param("weight", [2, 1, 1], { kind: "constant", value: 1 }));
const options: TextureFinetuneOptions = {
  student,
  features,
  discriminator,
  featureLoss: "mse",
  alphas: { mix: 3 },
  lambdaGan: 0.7,
  lambdaFM: 0.4,
  r1Weight: 0.01,
};

const W = [0.5, -1, 0.25, 0.75];
const bias = [0.1, -0.2];
const A = [0.3, -0.6];
const B = [0.2, 0.5];
const scale = [2, -0.5];
const weight = [0.4, 1.5];
const params: HostParams = {
  "student.mix.weight": HostTensor.from([2, 2, 1, 1], W),
  "student.mix.bias": HostTensor.from([2], bias),
  "lora.mix.lora_A.weight": HostTensor.from([1, 2, 1, 1], A),
  "lora.mix.lora_B.weight": HostTensor.from([2, 1, 1, 1], B),
  "teacher.scale": HostTensor.from([2, 1, 1], scale),
  "discriminator.weight": HostTensor.from([2, 1, 1], weight),
};
const shape = [2, 2, 2, 2];
const inputs = {
  noise: random(1).normal(shape),
  target: random(2).normal(shape),
  context: HostTensor.filled([2, 1, 1], 0),
  featureTimestep: HostTensor.filled([2], 0),
};

/** A value of each channel and pixel, all samples' pixels in one list: [channel][pixel]. */
const channels = ({ data }: HostTensor): number[][] =>
  [0, 1].map((c) => [0, 1].flatMap((sample) => Array.from(data.subarray(8 * sample + 4 * c, 8 * sample + 4 * c + 4))));
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const mapOf = (values: readonly number[][], factor: readonly number[]) =>
  values.map((row, c) => row.map((value) => value * factor[c]!));

const z = channels(inputs.noise);
const adaptedW = W.map((value, i) => value + 3 * B[i >> 1]! * A[i % 2]!); // alpha / rank is 3
const sample = [0, 1].map((o) =>
  z[0]!.map((_, n) => adaptedW[2 * o]! * z[0]![n]! + adaptedW[2 * o + 1]! * z[1]![n]! + bias[o]!),
);
const fake = mapOf(sample, scale);
const real = mapOf(channels(inputs.target), scale);
const logits = (map: readonly number[][]): number[] => mapOf(map, weight).flat();

describe.each(testBackends)("texture finetune on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("trains the discriminator by the hinge loss and R1 on features of targets and samples", async () => {
    const outputs = await run(textureFinetune(options).discriminator, params, inputs);
    const adversarial =
      mean(logits(real).map((x) => Math.max(0, 1 - x))) + mean(logits(fake).map((x) => Math.max(0, 1 + x)));
    const r1 = (4 * (weight[0]! ** 2 + weight[1]! ** 2)) / 2; // four pixels of each channel
    expect(outputs.adversarial.item()).toBeCloseTo(adversarial, 5);
    expect(outputs.loss.item()).toBeCloseTo(adversarial + 0.01 * r1, 5);
    expect(outputs.realLogit.item()).toBeCloseTo(mean(logits(real)), 5);
    expect(outputs.fakeLogit.item()).toBeCloseTo(mean(logits(fake)), 5);
  });

  it("trains the LoRA by the GAN loss and feature matching", async () => {
    const names = ["lora.mix.lora_A.weight", "lora.mix.lora_B.weight"];
    const outputs = await run(withGradients(textureFinetune(options).lora, names), params, inputs);
    const differences = fake.map((row, c) => row.map((value, n) => value - real[c]![n]!));
    const matching = mean(differences.flat().map((value) => value ** 2));
    expect(channels(outputs["sample"]!).flat()).toEqual(
      sample.flat().map((value) => expect.closeTo(value, 5) as number),
    );
    expect(outputs["adversarial"]!.item()).toBeCloseTo(-mean(logits(fake)), 5);
    expect(outputs["featureMatching"]!.item()).toBeCloseTo(matching, 5);
    expect(outputs["loss"]!.item()).toBeCloseTo(-0.7 * mean(logits(fake)) + 0.4 * matching, 5);

    // By each sample's value, then by the adapted weight, which is W + 3 B A.
    const bySample = differences.map((row, c) =>
      row.map((value) => (scale[c]! * (-0.7 * weight[c]! + 0.4 * 2 * value)) / 16),
    );
    const byWeight = (o: number, i: number) => bySample[o]!.reduce((sum, value, n) => sum + value * z[i]![n]!, 0);
    const byA = [0, 1].map((i) => 3 * (B[0]! * byWeight(0, i) + B[1]! * byWeight(1, i)));
    const byB = [0, 1].map((o) => 3 * (A[0]! * byWeight(o, 0) + A[1]! * byWeight(o, 1)));
    byA.forEach((value, i) => expect(outputs[`grad.${names[0]}`]!.data[i]).toBeCloseTo(value, 5));
    byB.forEach((value, i) => expect(outputs[`grad.${names[1]}`]!.data[i]).toBeCloseTo(value, 5));
  });

  it("trains by the non-saturating loss, and without feature matching, by option", async () => {
    const { lora } = textureFinetune({ ...options, gan: "non-saturating", lambdaFM: 0 });
    const outputs = await run(lora, params, inputs);
    expect(outputs.loss.item()).toBeCloseTo(0.7 * mean(logits(fake).map((x) => Math.log(1 + Math.exp(-x)))), 5);
    expect(outputs.featureMatching.item()).toBe(0);
  });

  it("has the gradients that finite differences give, each for its own player", async () => {
    const { discriminator: judged, lora } = textureFinetune({ ...options, gan: "non-saturating", featureLoss: "ssim" });
    const slopes = [
      await slopeAlongGradient(run, judged, params, inputs, "discriminator.weight"),
      await slopeAlongGradient(run, lora, params, inputs, "lora.mix.lora_B.weight"),
    ];
    slopes.forEach((slope) => expect(slope).toBeCloseTo(1, 2));
    const name = "lora.mix.lora_B.weight";
    expect(maxAbs((await run(withGradients(judged, [name]), params, inputs))[`grad.${name}`]!)).toBe(0);
  });

  it("tells how much samples vary beside the targets", async () => {
    const { sample: made } = await run(textureFinetune(options).lora, params, inputs);
    const { spread } = await run(textureFinetune(options).lora, params, { ...inputs, target: made });
    expect(spread.item()).toBeCloseTo(1, 4);
  });

  it("refuses targets of another shape, and a LoRA of another student", async () => {
    const { lora } = textureFinetune(options);
    const narrow = { ...inputs, target: HostTensor.filled([2, 2, 2, 1], 0) };
    await expect(run(lora, params, narrow)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    const other = { ...params, "lora.other.lora_A.weight": HostTensor.from([1, 2, 1, 1], A) };
    await expect(run(lora, other, inputs)).rejects.toMatchObject({ code: "UNEXPECTED_PARAMETER" });
  });
});
