import { HostTensor, random, type Program } from "@sdxs/tensor";
import { testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import { distributionMatchingLoss, scoreDistillationLoss, scoreDistillationWeights } from "./index.js";
import { expectClose, valuesAndGradients, type PerSampleLoss } from "./reference.test-support.js";

const shape = [2, 3, 4, 5];
const elements = 60;
const draw = random(7);
const [sample, online, offline] = ["sample", "online", "offline"].map((name) => draw.at(name).normal(shape)) as [
  HostTensor,
  HostTensor,
  HostTensor,
];
const alpha = HostTensor.from([2], [0.8, 0.28]);
const sigma = HostTensor.from([2], [0.6, 0.96]);
const perElement = (f: (sample: number, online: number, offline: number, index: number) => number): number[] =>
  Array.from(sample.data, (x, i) => f(x, online.data[i]!, offline.data[i]!, i));
const sampleOf = (index: number): number => Math.floor(index / elements);
/** Half the squared norm of each sample. */
const energies = (gradient: readonly number[]): number[] =>
  [0, 1].map((n) => gradient.slice(n * elements, (n + 1) * elements).reduce((sum, g) => sum + g * g, 0) / 2);
/** By the mean of two samples instead of by each. */
const ofMean = (gradient: readonly number[]): number[] => gradient.map((g) => g / 2);

describe.each(testBackends)("score distillation on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("has exactly Equation 12's gradient, and none into scores and weights", async () => {
    const weights = HostTensor.from([2], [0.5, 3]);
    const loss: PerSampleLoss = (ops, { sample, online, offline, weights }) =>
      scoreDistillationLoss(ops, sample!, { onlineScore: online!, offlineScore: offline! }, { weights: weights! });
    const inputs = { sample, online, offline, weights };
    const result = await valuesAndGradients(run, loss, inputs, Object.keys(inputs));
    const expected = perElement((_x, online, offline, i) => weights.data[sampleOf(i)]! * (online - offline));
    expectClose(result["values"]!.data, energies(expected), 1e-5);
    expectClose(result["grad.sample"]!.data, ofMean(expected), 1e-6);
    for (const name of ["online", "offline", "weights"]) {
      const { data } = result[`grad.${name}`]!;
      expectClose(data, new Float32Array(data.length), 1e-9);
    }
  });

  it("keeps gradients that are far smaller than the sample", async () => {
    const inputs = { sample: HostTensor.from([1, 2], [1000, -1000]), online: HostTensor.from([1, 2], [1e-6, -3e-6]) };
    const loss: PerSampleLoss = (ops, { sample, online }) =>
      scoreDistillationLoss(ops, sample!, { onlineScore: online!, offlineScore: ops.mul(online!, 0) });
    const result = await valuesAndGradients(run, loss, inputs, ["sample"]);
    expectClose(result["grad.sample"]!.data, [1e-6, -3e-6], 1e-6, 0);
  });

  it("reaches x_0 through x_t as the weights of Diff-Instruct say", async () => {
    const throughNoisy: PerSampleLoss = (ops, { sample, online, offline, alpha }) => {
      const noisy = ops.mul(sample!, ops.reshape(alpha!, [2, 1, 1, 1])); // and noise, which is constant
      return scoreDistillationLoss(ops, noisy, { onlineScore: online!, offlineScore: offline! });
    };
    const weighted: PerSampleLoss = (ops, { sample, online, offline, alpha, sigma }) => {
      const weights = scoreDistillationWeights(ops, "diff-instruct", { alpha: alpha!, sigma: sigma! });
      return scoreDistillationLoss(ops, sample!, { onlineScore: online!, offlineScore: offline! }, { weights });
    };
    const inputs = { sample, online, offline, alpha, sigma };
    const expected = perElement((_x, online, offline, i) => alpha.data[sampleOf(i)]! * (online - offline));
    for (const loss of [throughNoisy, weighted]) {
      const result = await valuesAndGradients(run, loss, inputs, ["sample"]);
      expectClose(result["grad.sample"]!.data, ofMean(expected), 1e-6);
    }
  });

  it("with SwiftBrush's weights is sigma^2 times the difference of the predicted noises", async () => {
    const loss: PerSampleLoss = (ops, { sample, online, offline, alpha, sigma }) => {
      const weights = scoreDistillationWeights(ops, "swiftbrush", { alpha: alpha!, sigma: sigma! });
      const score = (noise: NonNullable<typeof online>) => ops.div(ops.neg(noise), ops.reshape(sigma!, [2, 1, 1, 1]));
      const scores = { onlineScore: score(online!), offlineScore: score(offline!) };
      return scoreDistillationLoss(ops, sample!, scores, { weights });
    };
    const result = await valuesAndGradients(run, loss, { sample, online, offline, alpha, sigma }, ["sample"]);
    const expected = perElement((_x, online, offline, i) => sigma.data[sampleOf(i)]! ** 2 * (offline - online));
    expectClose(result["grad.sample"]!.data, ofMean(expected), 1e-6);
  });

  it("is normalised as DMD's Equation 8 by each sample's distance to the offline prediction", async () => {
    const loss: PerSampleLoss = (ops, { sample, online, offline }) =>
      distributionMatchingLoss(ops, sample!, { onlineSample: online!, offlineSample: offline! });
    const inputs = { sample, online, offline };
    const result = await valuesAndGradients(run, loss, inputs, Object.keys(inputs));
    const distances = perElement((x, _online, offline) => Math.abs(x - offline) / elements);
    const [first = 0, second = 0] = [0, 1].map((n) =>
      distances.slice(n * elements, (n + 1) * elements).reduce((sum, distance) => sum + distance),
    );
    const expected = perElement((_x, online, offline, i) => (online - offline) / (sampleOf(i) === 0 ? first : second));
    expectClose(result["values"]!.data, energies(expected), 1e-5);
    expectClose(result["grad.sample"]!.data, ofMean(expected), 1e-6);
    for (const name of ["online", "offline"]) {
      expectClose(result[`grad.${name}`]!.data, new Float32Array(2 * elements), 1e-9);
    }
  });

  it("stays finite where all predictions are the sample", async () => {
    const loss: PerSampleLoss = (ops, { sample }) =>
      distributionMatchingLoss(ops, sample!, { onlineSample: sample!, offlineSample: sample! });
    const result = await valuesAndGradients(run, loss, { sample }, ["sample"]);
    expectClose(result["values"]!.data, [0, 0], 1e-9);
    expectClose(result["grad.sample"]!.data, new Float32Array(2 * elements), 1e-9);
  });

  it("refuses scores and weights of other shapes", async () => {
    const narrow = HostTensor.filled([2, 3, 4, 1], 0);
    const losses: PerSampleLoss[] = [
      (ops, { sample, narrow }) => scoreDistillationLoss(ops, sample!, { onlineScore: narrow!, offlineScore: sample! }),
      (ops, { sample, narrow }) => scoreDistillationLoss(ops, sample!, { onlineScore: sample!, offlineScore: narrow! }),
      (ops, { sample, narrow }) =>
        scoreDistillationLoss(ops, sample!, { onlineScore: sample!, offlineScore: sample! }, { weights: narrow! }),
      (ops, { sample, narrow }) =>
        distributionMatchingLoss(ops, sample!, { onlineSample: sample!, offlineSample: narrow! }),
    ];
    for (const loss of losses) {
      const program: Program = (ops, _params, inputs) => ({ values: loss(ops, inputs) });
      await expect(run(program, {}, { sample, narrow }), String(loss)).rejects.toMatchObject({
        code: "SHAPE_MISMATCH",
      });
    }
  });
});
