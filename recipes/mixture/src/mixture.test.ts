import * as ort from "onnxruntime-node";
import { HostTensor, random, scope } from "@sdxs/tensor";
import { noiseLevelAt, noiseSchedule } from "@sdxs/diffusion";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { describe, expect, it } from "vitest";
import { distil, generate, target } from "./distil.js";
import {
  energyDistance,
  exactMoments,
  mixtureParameters,
  mixtureScore,
  momentsOf,
  samplePoints,
} from "./gaussian-mixture.js";

const backend = onnxBackend({ ort, threads: 1 }); // the networks are too small to share among threads

describe("a Gaussian mixture", () => {
  it("is sampled with its moments", () => {
    const exact = exactMoments(target);
    const { mean, covariance, weights } = momentsOf(samplePoints(target, 20_000, "test"), target);
    // Five standard errors: sqrt(variance / 20,000) is 0.009.
    mean.forEach((value, i) => expect(Math.abs(value - exact.mean[i]!)).toBeLessThan(0.045));
    covariance.forEach((value, i) => expect(Math.abs(value - exact.covariance[i]!)).toBeLessThan(0.06));
    weights.forEach((value, i) => expect(Math.abs(value - exact.weights[i]!)).toBeLessThan(0.02));
  });

  it("has the score that differentiating its density under noise gives", async () => {
    const schedule = noiseSchedule();
    const timesteps = [5, 200, 700, 999];
    const noisy = random(3).normal([4, 2, 1, 1]);
    const compiled = await backend.compile(
      (ops, params, inputs) => ({
        clean: mixtureScore(schedule, target.length)(ops, scope(ops, params), { ...inputs, context: inputs.sample }),
      }),
      {
        params: {
          means: { shape: [3, 2] },
          logDeviations: { shape: [3] },
          logWeights: { shape: [3] },
        },
        inputs: { sample: { shape: [4, 2, 1, 1] }, timestep: { shape: [4] } },
      },
    );
    const { clean } = await compiled.run(mixtureParameters(target), {
      sample: noisy,
      timestep: HostTensor.from([4], timesteps),
    });
    const predicted = (await backend.download(clean)).data;
    timesteps.forEach((timestep, row) => {
      const { alpha, sigma } = noiseLevelAt(schedule, timestep);
      const logDensity = (x: number, y: number): number =>
        Math.log(
          target.reduce((sum, { weight, mean, deviation }) => {
            const variance = (alpha * deviation) ** 2 + sigma ** 2;
            const squares = (x - alpha * mean[0]) ** 2 + (y - alpha * mean[1]) ** 2;
            return sum + (weight / variance) * Math.exp(-squares / (2 * variance));
          }, 0),
        );
      const [x, y] = [noisy.data[2 * row]!, noisy.data[2 * row + 1]!];
      const h = 1e-4;
      const score = [
        (logDensity(x + h, y) - logDensity(x - h, y)) / (2 * h),
        (logDensity(x, y + h) - logDensity(x, y - h)) / (2 * h),
      ];
      // Tweedie: E[x_0 | x_t] = (x_t + sigma^2 score) / alpha.
      [x, y].forEach((value, axis) =>
        expect(predicted[2 * row + axis]).toBeCloseTo((value + sigma ** 2 * score[axis]!) / alpha, 3),
      );
    });
    await compiled.dispose();
  });
});

// Some ten seconds of one core; busy machines take several times as long.
describe("students of a Gaussian mixture whose noises say nothing of their images", { timeout: 400_000 }, () => {
  const exact = exactMoments(target);
  const budget = { warmupSteps: 300, distillationSteps: 600 };
  const truth = samplePoints(target, 2000, "truth");
  const trained = async (method: Parameters<typeof distil>[1]) =>
    generate(backend, await distil(backend, method, budget), 2000);

  it("give the mean of the images under MSE, and one image under feature matching", async () => {
    const blurred = momentsOf(await trained("mean squared error"), target);
    blurred.mean.forEach((value, i) => expect(Math.abs(value - exact.mean[i]!)).toBeLessThan(0.1));
    expect(blurred.covariance[0]).toBeLessThan(0.05 * exact.covariance[0]);
    const matched = momentsOf(await trained("feature matching"), target);
    // The largest group: the point most like the images, and no mean of them.
    matched.mean.forEach((value, i) => expect(Math.abs(value - target[0]!.mean[i]!)).toBeLessThan(0.1));
  });

  it("give the distribution under segmented score distillation", async () => {
    const points = await trained("SSD");
    const { mean, covariance, weights } = momentsOf(points, target);
    mean.forEach((value, i) => expect(Math.abs(value - exact.mean[i]!)).toBeLessThan(0.15));
    covariance.forEach((value, i) => expect(Math.abs(value - exact.covariance[i]!)).toBeLessThan(0.3));
    weights.forEach((value, i) => expect(Math.abs(value - exact.weights[i]!)).toBeLessThan(0.08));
    // A student of the blurred mean has 1.09.
    expect(energyDistance(points, truth)).toBeLessThan(0.08);
  });
});
