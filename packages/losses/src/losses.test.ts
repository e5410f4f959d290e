import { HostTensor, ShapeError, type Program } from "@sdxs/tensor";
import { expectCase, expectOutput, referenceCase, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import {
  denoisingLoss,
  downsample,
  featureDistillationLoss,
  featureMatchingLoss,
  gaussianSsim,
  huber,
  klDivergence,
  l1,
  minSnrWeights,
  mse,
  outputDistillationLoss,
  pseudoHuber,
  vaeDistillationLoss,
  type DownsamplingFilter,
} from "./index.js";
import { checkLossesCase } from "./losses-case.test-support.js";
import {
  expectClose,
  fixture,
  fixtureTensors,
  meanOf,
  valuesAndGradients,
  type PerSampleLoss,
} from "./reference.test-support.js";

const reference = await fixture("losses");
const kl = await fixture("kl");

// float32 against float32: outputs to 1e-4 of their largest value, gradients likewise.
const TOLERANCE = 1e-4;

describe.each(testBackends)("losses on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  const x = reference("l1ds.x"); // [2, 3, 32, 48]
  const y = reference("l1ds.y");

  const elementwise: readonly (readonly [string, PerSampleLoss])[] = [
    ["mse", (ops, { x, y }) => mse(ops, x!, y!)],
    ["l1", (ops, { x, y }) => l1(ops, x!, y!)],
    ["huber_0.5", (ops, { x, y }) => huber(ops, x!, y!, { delta: 0.5 })],
    ["pseudo_huber_0.03", (ops, { x, y }) => pseudoHuber(ops, x!, y!, { c: 0.03 })],
  ];
  it.each(elementwise)("%s has PyTorch's mean, one value per sample and its analytic gradient", async (name, loss) => {
    const result = await valuesAndGradients(run, loss, { x, y }, ["x"]);
    expect(result["values"]!.shape).toEqual([2]);
    expectClose([meanOf(result["values"]!)], reference(`${name}.out`).data, 1e-6);

    const slope: Record<string, (d: number) => number> = {
      mse: (d) => 2 * d,
      l1: Math.sign,
      "huber_0.5": (d) => Math.max(-0.5, Math.min(0.5, d)),
      "pseudo_huber_0.03": (d) => d / Math.hypot(d, 0.03),
    };
    const expected = Array.from(x.data, (value, i) => slope[name]!(value - y.data[i]!) / x.data.length);
    expectClose(result["grad.x"]!.data, expected, TOLERANCE, 0);
  });

  it("the samples of a batch do not mix", async () => {
    const half = (tensor: HostTensor) => HostTensor.from([1, 3, 32, 48], tensor.data.slice(tensor.data.length / 2));
    const program: Program = (ops, _params, { x, y }) => ({ values: vaeDistillationLoss(ops, x!, y!) });
    const both = await run(program, {}, { x, y });
    const second = await run(program, {}, { x: half(x), y: half(y) });
    expectClose([both["values"]!.data[1]!], second["values"]!.data, 1e-6);
  });

  it("VAE distillation adds the adversarial term to each sample", async () => {
    const program: Program = (ops, _params, { x, y, adversarial }) => ({
      without: vaeDistillationLoss(ops, x!, y!, { downsample: 1 }),
      with: vaeDistillationLoss(ops, x!, y!, { downsample: 1, adversarial: adversarial! }),
    });
    const result = await run(program, {}, { x, y, adversarial: HostTensor.from([2], [0.5, 2]) });
    const [first = 0, second = 0] = result["without"]!.data;
    expectClose(result["with"]!.data, [first + 0.5, second + 2], 1e-6);
    expectClose([(first + second) / 2], reference("l1.out").data, 1e-6);
  });

  it("values and gradients are those of PyTorch, DISTS and scikit-image", async () => {
    expectCase(await checkLossesCase(referenceCase(new URL("../fixtures/losses/", import.meta.url)), run));
  });

  it.each(["area", "bilinear", "bilinear-antialias", "bicubic-antialias"] satisfies DownsamplingFilter[])(
    "images made smaller by %s are PyTorch's, whatever the factor",
    async (filter) => {
      const { x: images, ...smaller } = await fixtureTensors("downsample");
      const program: Program = (ops, _params, { images }) =>
        Object.fromEntries([1, 2, 3, 6].map((factor) => [factor, downsample(ops, images!, factor, filter)]));
      const results = await run(program, {}, { images: images! });
      for (const [factor, result] of Object.entries(results)) {
        expectOutput(`factor ${factor}`, result, smaller[`${filter}.${factor}`]);
      }
    },
  );

  it("feature matching weighs its maps, evenly by default", async () => {
    const inputs = Object.fromEntries(["x.0", "x.1", "y.0", "y.1"].map((name) => [name, reference(`dists.${name}`)]));
    const program: Program = (ops, _params, given) => {
      const lists = [
        [given["x.0"]!, given["x.1"]!],
        [given["y.0"]!, given["y.1"]!],
      ] as const;
      return {
        even: featureMatchingLoss(ops, ...lists),
        weighted: featureMatchingLoss(ops, ...lists, { weights: [2, 3] }),
        same: featureMatchingLoss(ops, lists[0], lists[0]),
      };
    };
    const result = await run(program, {}, inputs);
    const [first, second] = [0, 1].map((l) => reference(`dists.out.one_minus_mean_ls.${l}`).item()) as [number, number];
    expectClose([meanOf(result["even"]!)], [(first + second) / 2], TOLERANCE);
    expectClose([meanOf(result["weighted"]!)], [2 * first + 3 * second], TOLERANCE);
    expectClose(result["same"]!.data, [0, 0], 1e-6);
  });

  it("feature matching is finite, with a finite gradient, on maps of zeros", async () => {
    const zero = HostTensor.filled([2, 3, 4, 4], 0);
    const inputs = { x: zero, y: zero };
    const result = await valuesAndGradients(run, (ops, { x, y }) => featureMatchingLoss(ops, [x!], [y!]), inputs, [
      "x",
    ]);
    expectClose(result["values"]!.data, [0, 0], 1e-6);
    expectClose(result["grad.x"]!.data, new Float32Array(96), 1e-6);
  });

  it("the KL divergence is that of diffusers' DiagonalGaussianDistribution", async () => {
    const inputs = { mean: kl("mean"), logVariance: kl("logvar") };
    const loss: PerSampleLoss = (ops, given) => klDivergence(ops, given["mean"]!, given["logVariance"]!);
    const result = await valuesAndGradients(run, loss, inputs, ["mean", "logVariance"]);
    expectClose(result["values"]!.data, kl("kl").data, 1e-6);
    // Of the mean over two samples: mean / 2 and (exp(logVariance) - 1) / 4.
    expectClose(
      result["grad.mean"]!.data,
      Array.from(kl("mean").data, (m) => m / 2),
      TOLERANCE,
      0,
    );
    expectClose(
      result["grad.logVariance"]!.data,
      Array.from(kl("logvar").data, (v) => Math.expm1(v) / 4),
      TOLERANCE,
      0,
    );
  });

  it("distillation losses teach the student alone", async () => {
    const inputs = { student: x, teacher: y };
    const loss: PerSampleLoss = (ops, { student, teacher }) =>
      ops.add(
        outputDistillationLoss(ops, student!, teacher!),
        featureDistillationLoss(ops, [student!, student!], [teacher!, teacher!], { weights: [0.5, 1.5] }),
      );
    const result = await valuesAndGradients(run, loss, inputs, ["student", "teacher"]);
    expectClose([meanOf(result["values"]!)], [3 * reference("mse.out").item()], 1e-6);
    const expected = Array.from(x.data, (value, i) => (6 * (value - y.data[i]!)) / x.data.length);
    expectClose(result["grad.student"]!.data, expected, TOLERANCE, 0);
    expectClose(result["grad.teacher"]!.data, new Float32Array(y.data.length), 1e-9);
  });

  it("balanced feature distillation divides each sample's term by the teacher's mean square", async () => {
    const loss: PerSampleLoss = (ops, { x, y }) =>
      featureDistillationLoss(ops, [x!, ops.mul(x!, 100)], [y!, ops.mul(y!, 100)], { balanced: true, weights: [1, 2] });
    const result = await valuesAndGradients(run, loss, { x, y }, ["x", "y"]);
    const size = x.data.length / 2;
    const scales = [0, 1].map((n) =>
      Array.from(y.data.slice(n * size, (n + 1) * size)).reduce((sum, v) => sum + v * v, 0),
    );
    const differences = Array.from(x.data, (value, i) => value - y.data[i]!);
    const share = (difference: number, i: number): number => (3 * difference) / scales[Math.floor(i / size)]!;
    const terms = differences.map((difference, i) => difference * share(difference, i));
    const values = [0, 1].map((n) => terms.slice(n * size, (n + 1) * size).reduce((sum, term) => sum + term));
    expectClose(result["values"]!.data, values, 1e-5);
    expectClose(result["grad.x"]!.data, differences.map(share), TOLERANCE, 0); // 2 / 2, of the mean of two samples
    expectClose(result["grad.y"]!.data, new Float32Array(y.data.length), 1e-9);
  });

  it("balanced feature distillation is finite where the teacher's features are 0", async () => {
    const zero = HostTensor.filled([2, 3], 0);
    const loss: PerSampleLoss = (ops, { zero }) => featureDistillationLoss(ops, [zero!], [zero!], { balanced: true });
    const result = await valuesAndGradients(run, loss, { zero }, ["zero"]);
    expectClose([...result["values"]!.data, ...result["grad.zero"]!.data], new Float32Array(8), 1e-9);
  });

  it("the denoising loss weighs each sample by min-SNR", async () => {
    // snr = 9 and 1 / 9, on either side of gamma = 5.
    const alpha = HostTensor.from([2], [Math.sqrt(0.9), Math.sqrt(0.1)]);
    const sigma = HostTensor.from([2], [Math.sqrt(0.1), Math.sqrt(0.9)]);
    const program: Program = (ops, _params, { x, y, alpha, sigma }) => {
      const level = { alpha: alpha!, sigma: sigma! };
      const epsilon = minSnrWeights(ops, "epsilon", level);
      return {
        plain: denoisingLoss(ops, x!, y!),
        weighted: denoisingLoss(ops, x!, y!, { weights: epsilon }),
        epsilon,
        velocity: minSnrWeights(ops, "v_prediction", level),
        sample: minSnrWeights(ops, "sample", level),
      };
    };
    const result = await run(program, {}, { x, y, alpha, sigma });
    expectClose([meanOf(result["plain"]!)], reference("mse.out").data, 1e-6);
    expectClose(result["epsilon"]!.data, [5 / 9, 1], 1e-5);
    expectClose(result["velocity"]!.data, [5 / 10, 1 / 10], 1e-5);
    expectClose(result["sample"]!.data, [5, 1 / 9], 1e-5);
    const [first = 0, second = 0] = result["plain"]!.data;
    expectClose(result["weighted"]!.data, [(first * 5) / 9, second], 1e-5);
  });

  it("every loss refuses tensors of different shapes instead of broadcasting", async () => {
    const narrow = HostTensor.filled([2, 3, 32, 1], 0);
    const losses: PerSampleLoss[] = [
      ...elementwise.map(([, loss]) => loss),
      (ops, { x, y }) => vaeDistillationLoss(ops, x!, y!),
      (ops, { x, y }) => featureMatchingLoss(ops, [x!], [y!]),
      (ops, { x, y }) => featureDistillationLoss(ops, [x!], [y!]),
      (ops, { x, y }) => outputDistillationLoss(ops, x!, y!),
      (ops, { x, y }) => denoisingLoss(ops, x!, y!),
      (ops, { x, y }) => klDivergence(ops, x!, y!),
      (ops, { x, y }) => gaussianSsim(ops, x!, y!, { dataRange: 2 }),
      (ops, { x }) => vaeDistillationLoss(ops, x!, x!, { downsample: 7 }),
      (ops, { x }) => downsample(ops, ops.sum(x!, { axes: [0] }), 2),
      (ops, { x }) => featureMatchingLoss(ops, [x!], [x!, x!]),
      (ops, { x }) => denoisingLoss(ops, x!, x!, { weights: x! }),
      (ops, { y }) => gaussianSsim(ops, y!, y!, { dataRange: 2 }),
    ];
    for (const loss of losses) {
      const program: Program = (ops, _params, inputs) => ({ values: loss(ops, inputs) });
      await expect(run(program, {}, { x, y: narrow }), String(loss)).rejects.toThrow(ShapeError);
    }
  });
});
