import { noiseSchedule, oneStepConversion, oneStepFromPlan, euler } from "@sdxs/diffusion";
import { featureMatchingLoss } from "@sdxs/losses";
import {
  HostTensor,
  convLayer,
  initialize,
  prefixed,
  random,
  scope,
  type HostParams,
  type Ops,
  type Program,
  type TensorMap,
} from "@sdxs/tensor";
import { maxAbs, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { copyParameters, parseUNetConfig, planBlockRemoval, unet, unetEncoder, unetParameters } from "@sdxs/tiny-unet";
import { beforeAll, describe, expect, it } from "vitest";
import { featureMatchingWarmup, oneStepGenerator, type FeatureExtractor, type ScoreFunction } from "../index.js";

type Inputs = "noise" | "target" | "context" | "featureTimestep";

const conversion = oneStepConversion(noiseSchedule());
const inputs: Readonly<Record<Inputs, HostTensor>> = {
  noise: random(1).normal([2, 4, 8, 8]),
  target: random(2).normal([2, 4, 8, 8]),
  context: random(3).normal([2, 3, 8]),
  featureTimestep: HostTensor.from([2], [10, 10]),
};

// A student of one convolution that also shows which timestep and context it was given, and an encoder of two maps.
const network: ScoreFunction = (ops, p, { sample, timestep, context }) => {
  const conditioning = ops.add(ops.mul(timestep, 1e-3), ops.mean(context, { axes: [1, 2] }));
  return ops.add(convLayer(ops, p.at("conv"), sample, 4), ops.reshape(conditioning, [-1, 1, 1, 1]));
};
const student = oneStepGenerator(network, conversion);
const features: FeatureExtractor = (ops, p, { sample }) => {
  const first = ops.tanh(convLayer(ops, p.at("first"), sample, 6, { stride: 2 }));
  return [first, convLayer(ops, p.at("second"), first, 5)];
};
const params: HostParams = {
  "student.conv.weight": random(4).normal([4, 4, 3, 3]),
  "student.conv.bias": random(5).normal([4]),
  // Small: samples are about 14 times as large as the student's output, and tanh must not saturate.
  "teacher.first.weight": HostTensor.from(
    [6, 4, 3, 3],
    Array.from(random(6).normal([6, 4, 3, 3]).data, (value) => 0.002 * value),
  ),
  "teacher.first.bias": random(7).normal([6]),
  "teacher.second.weight": random(8).normal([5, 6, 3, 3]),
  "teacher.second.bias": random(9).normal([5]),
};

const mean = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0) / values.length;
const relative = (actual: number, expected: number) => actual / expected;

describe.each(testBackends)("feature-matching warm-up on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("is Equation 10 between the student's one-step sample and the target", async () => {
    const program: Program<Inputs> = (ops, given, data) => {
      const timestep = ops.constant(Float32Array.of(999, 999), [2]);
      const output = network(ops, scope(ops, given, "student"), {
        sample: data.noise,
        timestep,
        context: data.context,
      });
      // x_0 = (z - sqrt(1 - abar) epsilon) / sqrt(abar), with Stable Diffusion's abar at timestep 999.
      const abar = 0.00466009508818388;
      const sample = ops.div(ops.sub(data.noise, ops.mul(output, Math.sqrt(1 - abar))), Math.sqrt(abar));
      const encode = (x: typeof sample) =>
        features(ops, scope(ops, given, "teacher"), {
          sample: x,
          timestep: data.featureTimestep,
          context: data.context,
        });
      return { sample, loss: featureMatchingLoss(ops, encode(sample), encode(data.target), { weights: [0.25, 0.75] }) };
    };
    const expected = await run(program, params, inputs);
    const warmup = featureMatchingWarmup({ student, features, featureWeights: [0.25, 0.75] });
    const { loss, perSample, sample } = await run(warmup, params, inputs);
    expect(perSample.shape).toEqual([2]);
    expected["loss"]!.data.forEach((value, i) => expect(perSample.data[i]).toBeCloseTo(value, 4));
    expect(loss.item()).toBeCloseTo(mean(perSample.data), 6);
    const scale = maxAbs(sample);
    sample.data.forEach((value, i) => expect(value / scale).toBeCloseTo(expected["sample"]!.data[i]! / scale, 5));
  });

  it("is 0 where the student already gives the target", async () => {
    const warmup = featureMatchingWarmup({ student, features, weights: { features: 1, l1: 1, mse: 1 } });
    const { sample } = await run(warmup, params, inputs);
    const { loss } = await run(warmup, params, { ...inputs, target: sample });
    expect(loss.item()).toBeCloseTo(0, 5);
  });

  it("weighs latent L1, latent MSE and feature MSE where asked", async () => {
    const lossOf = async (options: Pick<Parameters<typeof featureMatchingWarmup>[0], "weights" | "featureLoss">) =>
      run(featureMatchingWarmup({ student, features, ...options }), params, inputs);
    const { loss: mse, sample } = await lossOf({ weights: { features: 0, mse: 1 } });
    const { loss: l1 } = await lossOf({ weights: { features: 0, l1: 1 } });
    const { loss: ssim } = await lossOf({});
    const { loss: featureMse } = await lossOf({ featureLoss: "mse" });
    const differences = Array.from(sample.data, (value, i) => value - inputs.target.data[i]!);
    expect(relative(mse.item(), mean(differences.map((d) => d * d)))).toBeCloseTo(1, 5);
    expect(relative(l1.item(), mean(differences.map(Math.abs)))).toBeCloseTo(1, 5);
    const { loss: combined } = await lossOf({ weights: { features: 2, l1: 0.5, mse: 0.01 } });
    expect(relative(combined.item(), 2 * ssim.item() + 0.5 * l1.item() + 0.01 * mse.item())).toBeCloseTo(1, 5);
    expect(featureMse.item()).toBeGreaterThan(0);
    expect(featureMse.item()).not.toBeCloseTo(ssim.item(), 3);
  });

  it("has the gradient that finite differences give", async () => {
    const name = "student.conv.weight";
    const warmup = featureMatchingWarmup({ student, features });
    const differentiate = <T>(ops: Ops<T>, given: TensorMap<T>, data: Readonly<Record<Inputs, T>>) =>
      ops.valueAndGrad((varied) => ({ loss: warmup(ops, { ...given, ...varied }, data).loss, aux: {} }), {
        [name]: given[name]!,
      }).grads;
    const gradient = (await run<Inputs, string>(differentiate, params, inputs))[name]!;
    const norm = Math.hypot(...gradient.data);
    const lossAt = async (step: number) => {
      const moved = Array.from(params[name]!.data, (value, i) => value + (step * gradient.data[i]!) / norm);
      const { loss } = await run(warmup, { ...params, [name]: HostTensor.from(gradient.shape, moved) }, inputs);
      return loss.item();
    };
    const step = 1e-2;
    const slope = ((await lossAt(step)) - (await lossAt(-step))) / (2 * step);
    expect(relative(slope, norm)).toBeCloseTo(1, 2);
  });

  it("scales the student's input where the conversion does", async () => {
    const seen: Program<Inputs> = (ops, given, data) => {
      let input = data.noise;
      const spy: ScoreFunction = (spyOps, p, networkInputs) => {
        input = networkInputs.sample as unknown as typeof input; // the same tensor type: one call, one backend
        return network(spyOps, p, networkInputs);
      };
      const trailing = oneStepFromPlan(euler(noiseSchedule(), { steps: 1, spacing: "trailing" }));
      featureMatchingWarmup({ student: oneStepGenerator(spy, trailing), features })(ops, given, data);
      return { input: ops.add(input, 0) };
    };
    const { input } = await run(seen, params, inputs);
    const factor = 14.614641 / Math.hypot(14.614641, 1); // sigma of the last timestep
    inputs.noise.data.forEach((value, i) => expect(input!.data[i]).toBeCloseTo(factor * value, 5));
  });

  it("trains a U-Net against the encoder of its teacher, and only the U-Net", async () => {
    const teacher = parseUNetConfig({
      block_out_channels: [8, 16, 16],
      down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
      up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
      norm_num_groups: 4,
      attention_head_dim: 4,
      cross_attention_dim: 8,
      layers_per_block: 1,
    });
    const plan = planBlockRemoval(teacher, "sdxs-512");
    const teacherParams = initialize(unetParameters(teacher), 1);
    const both = {
      ...prefixed(teacherParams, "teacher."),
      ...prefixed(copyParameters(plan, teacherParams), "student."),
    };
    const warmup = featureMatchingWarmup({
      student: oneStepGenerator(
        (ops, p, { context, ...rest }) => unet(ops, p, plan.config, { ...rest, encoderHiddenStates: context }).sample,
        conversion,
      ),
      features: (ops, p, { context, ...rest }) =>
        unetEncoder(ops, p, teacher, { ...rest, encoderHiddenStates: context }).downBlocks,
    });
    const differentiate = <T>(ops: Ops<T>, given: TensorMap<T>, data: Readonly<Record<Inputs, T>>) => {
      const learned = Object.fromEntries(Object.entries(given).filter(([name]) => name.startsWith("student.")));
      const result = ops.valueAndGrad(
        (varied) => ({ loss: warmup(ops, { ...given, ...varied }, data).loss, aux: {} }),
        learned,
      );
      return { ...result.grads, loss: result.loss };
    };
    const { loss, ...gradients } = await run<Inputs, string>(differentiate, both, inputs);
    expect(loss!.item()).toBeGreaterThan(0);
    expect(loss!.item()).toBeLessThan(2);
    for (const [name, gradient] of Object.entries(gradients)) expect(maxAbs(gradient), name).toBeGreaterThan(0);
  });

  it("refuses a target of another shape and weights that are all 0", async () => {
    const warmup = featureMatchingWarmup({ student, features });
    const narrow = { ...inputs, target: HostTensor.filled([2, 4, 8, 1], 0) };
    await expect(run(warmup, params, narrow)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    expect(() => featureMatchingWarmup({ student, features, weights: { features: 0 } })).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }),
    );
  });
});
