import { noiseLevelAt, noiseSchedule, oneStepConversion } from "@sdxs/diffusion";
import { featureMatchingLoss } from "@sdxs/losses";
import {
  HostTensor,
  convLayer,
  random,
  scope,
  type HostParams,
  type Ops,
  type Program,
  type TensorMap,
} from "@sdxs/tensor";
import { testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import {
  oneStepGenerator,
  segmentedScoreDistillation,
  type FeatureExtractor,
  type ScoreFunction,
  type SegmentedScoreDistillationOptions,
  type StudentInput,
} from "../index.js";

const schedule = noiseSchedule();
const shape = [2, 3, 4, 4];
const scalar = (value: number) => HostTensor.scalar(value);
const timesteps = [30, 700];

// Students and scores of one convolution that also show which timestep and context they were given.
const network: ScoreFunction = (ops, p, { sample, timestep, context }) => {
  const conditioning = ops.add(ops.mul(timestep, 1e-3), ops.mean(context, { axes: [1, 2] }));
  return ops.add(convLayer(ops, p.at("conv"), sample, 3), ops.reshape(conditioning, [-1, 1, 1, 1]));
};
const features: FeatureExtractor = (ops, p, { sample }) => [ops.tanh(convLayer(ops, p.at("encoder"), sample, 5))];

const convolution = (seed: number, outputs: number, size = 0.2): HostParams => ({
  weight: HostTensor.from(
    [outputs, 3, 3, 3],
    random(seed)
      .normal([outputs, 3, 3, 3])
      .data.map((value) => size * value),
  ),
  bias: HostTensor.from(
    [outputs],
    random(seed, "bias")
      .normal([outputs])
      .data.map((value) => size * value),
  ),
});
const named = (prefix: string, params: HostParams): HostParams =>
  Object.fromEntries(Object.entries(params).map(([name, tensor]) => [`${prefix}.${name}`, tensor]));
const params: HostParams = {
  ...named("student.conv", convolution(1, 3)),
  ...named("online.conv", convolution(2, 3)),
  ...named("teacher.conv", convolution(3, 3)),
  ...named("teacher.encoder", convolution(4, 5)),
};
const inputs: Readonly<Record<StudentInput, HostTensor>> = {
  noise: random(5).normal(shape),
  target: random(6).normal(shape),
  context: random(7).normal([2, 2, 3]),
  scoreNoise: random(8).normal(shape),
  timestep: HostTensor.from([2], timesteps),
  featureTimestep: HostTensor.from([2], [0, 0]),
  alpha: scalar(0.8),
  lambdaFM: scalar(0.5),
};
const options: SegmentedScoreDistillationOptions = {
  student: oneStepGenerator(network, oneStepConversion(schedule, { prediction: "v_prediction" })),
  onlineScore: network,
  offlineScore: network,
  prediction: "v_prediction",
  schedule,
  features,
};

/** The gradient of a program's loss by the student's parameters, and its outputs. */
const differentiated = (program: Program<StudentInput>, by: string): Program<StudentInput> =>
  function differentiate<T>(ops: Ops<T>, given: TensorMap<T>, data: Readonly<Record<StudentInput, T>>) {
    const varied = Object.fromEntries(Object.entries(given).filter(([name]) => name.startsWith(by)));
    const { loss, grads, aux } = ops.valueAndGrad((changed) => {
      const { loss, ...others } = program(ops, { ...given, ...changed }, data) as Record<string, T>;
      return { loss: loss!, aux: others };
    }, varied);
    return { ...aux, ...Object.fromEntries(Object.entries(grads).map(([name, grad]) => [`grad.${name}`, grad])), loss };
  };

const rows = <V>(tensor: HostTensor, of: (values: number[], row: number) => V): V[] => {
  const size = tensor.data.length / 2;
  return [0, 1].map((row) => of(Array.from(tensor.data.subarray(row * size, (row + 1) * size)), row));
};
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

describe.each(testBackends)("segmented score distillation on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });
  const student = (given: Partial<typeof options> = {}, changed: Partial<typeof inputs> = {}) => {
    const { student: program } = segmentedScoreDistillation({ ...options, ...given });
    return run<StudentInput, string>(differentiated(program, "student."), params, { ...inputs, ...changed });
  };

  it.each([
    // Of the difference of the predictions of x_0: w(t) alpha times what the scores, or the noises, differ by for 1 of it.
    { weight: "diff-instruct", factor: (alpha: number, sigma: number) => (alpha * alpha) / (sigma * sigma) },
    { weight: "swiftbrush", factor: (alpha: number, sigma: number) => sigma * sigma * (alpha / sigma) },
    { weight: "dmd", factor: (_alpha: number, _sigma: number, distance: number) => 1 / distance },
  ] as const)("is Equation 12 where lambda_FM is 0, weighed by $weight", async ({ weight, factor }) => {
    const result = await student({ scoreWeight: weight }, { lambdaFM: scalar(0) });
    const { sample, onlineSample, offlineSample } = result;
    // The same gradient through a loss that is linear in the sample.
    const gradient = rows(sample!, (values, row) => {
      const { alpha, sigma } = noiseLevelAt(schedule, timesteps[row]!);
      const begin = row * values.length;
      const of = (tensor: HostTensor) => tensor.data.subarray(begin, begin + values.length);
      const distance = mean(values.map((value, i) => Math.abs(value - of(offlineSample!)[i]!)));
      return Array.from(of(onlineSample!), (value, i) => {
        const perElement = (value - of(offlineSample!)[i]!) * factor(alpha, sigma, distance);
        return (0.8 * perElement) / (2 * values.length); // alpha, and means over elements and batch
      });
    }).flat();
    const linear: Program<StudentInput> = (ops, given, data) => {
      const made = segmentedScoreDistillation(options).student(ops, given, data).sample;
      return { loss: ops.sum(ops.mul(made, ops.constant(Float32Array.from(gradient), shape))) };
    };
    const expected = await run<StudentInput, string>(differentiated(linear, "student."), params, inputs);
    for (const name of ["grad.student.conv.weight", "grad.student.conv.bias"]) {
      const scale = Math.max(...expected[name]!.data.map(Math.abs));
      result[name]!.data.forEach((value, i) => expect(value / scale).toBeCloseTo(expected[name]!.data[i]! / scale, 4));
    }
    const halfSquare = mean(gradient.map((value) => (value * 2 * 48) ** 2 / 0.8 ** 2)) / 2;
    expect(result["loss"]!.item() / (0.8 * halfSquare)).toBeCloseTo(1, 4);
  });

  it("is lambda_FM times Equation 10's gradient where the online score is the offline one", async () => {
    const result = await run<StudentInput, string>(
      differentiated(segmentedScoreDistillation(options).student, "student."),
      { ...params, ...named("online.conv", convolution(3, 3)) },
      inputs,
    );
    expect(result["scoreGap"]!.item()).toBeCloseTo(0, 5);
    expect(result["scoreGradientNorm"]!.item()).toBeCloseTo(0, 5);
    const matching: Program<StudentInput> = (ops, given, data) => {
      const { sample } = segmentedScoreDistillation(options).student(ops, given, data);
      const encode = (x: typeof sample) => [
        ops.tanh(ops.conv2d(x, given["teacher.encoder.weight"]!, given["teacher.encoder.bias"], { padding: 1 })),
      ];
      return { loss: ops.mul(ops.mean(featureMatchingLoss(ops, encode(sample), encode(data.target))), 0.5) };
    };
    const expected = await run<StudentInput, string>(differentiated(matching, "student."), params, inputs);
    const name = "grad.student.conv.weight";
    const scale = Math.max(...expected[name]!.data.map(Math.abs));
    result[name]!.data.forEach((value, i) => expect(value / scale).toBeCloseTo(expected[name]!.data[i]! / scale, 4));
    expect(result["loss"]!.item()).toBeCloseTo(expected["loss"]!.item(), 5);
    expect(result["featureMatching"]!.item() * 0.5).toBeCloseTo(expected["loss"]!.item(), 5);
    expect(result["featureGradientNorm"]!.item()).toBeGreaterThan(0);
  });

  it("trains the student alone, and the online DM alone", async () => {
    const { student, online } = segmentedScoreDistillation(options);
    const ofOthers = await run<StudentInput, string>(differentiated(student, "online."), params, inputs);
    expect(ofOthers["grad.online.conv.weight"]!.data.every((value) => value === 0)).toBe(true);
    const alone: Program<StudentInput> = (ops, given, { noise, context, scoreNoise, timestep }) =>
      online(ops, given, { noise, context, scoreNoise, timestep });
    const ofOnline = await run<StudentInput, string>(differentiated(alone, "online."), params, inputs);
    expect(Math.max(...ofOnline["grad.online.conv.weight"]!.data.map(Math.abs))).toBeGreaterThan(0);
  });

  it("trains the online DM by Equation 1 on the student's samples", async () => {
    const { sample } = await student();
    const { online } = segmentedScoreDistillation(options);
    const { noise, context, scoreNoise, timestep } = inputs;
    const { loss } = await run(online, params, { noise, context, scoreNoise, timestep });
    // v = alpha n - sigma x_0 against what the network makes of alpha x_0 + sigma n.
    const levels = timesteps.map((t) => noiseLevelAt(schedule, t));
    const mix = (of: (alpha: number, sigma: number, x: number, n: number) => number) =>
      rows(sample!, (values, row) => {
        const { alpha, sigma } = levels[row]!;
        return values.map((x, i) => of(alpha, sigma, x, scoreNoise.data[row * values.length + i]!));
      }).flat();
    const noisy = HostTensor.from(
      shape,
      mix((alpha, sigma, x, n) => alpha * x + sigma * n),
    );
    const velocity = mix((alpha, sigma, x, n) => alpha * n - sigma * x);
    const predict: Program<"sample" | "timestep" | "context"> = (ops, given, data) => ({
      output: network(ops, onlineScope(ops, given), data),
    });
    const { output } = await run(predict, params, { sample: noisy, timestep, context });
    const expected = mean(Array.from(output!.data, (value, i) => (value - velocity[i]!) ** 2));
    expect(loss.item() / expected).toBeCloseTo(1, 4);
  });

  it("guides the offline score away from the empty prompt, and not the online one", async () => {
    const unconditional = random(9).normal([2, 3]);
    const plain = await student();
    const empty = HostTensor.from([2, 2, 3], [...unconditional.data, ...unconditional.data]);
    const guidedResult = await student({ guidance: { scale: 3, unconditional } });
    // The context shifts this network's velocity by its mean, and x_0 = alpha x_t - sigma v.
    rows(plain["offlineSample"]!, (values, row) => {
      const { sigma } = noiseLevelAt(schedule, timesteps[row]!);
      const meanOf = (tensor: HostTensor) => mean(rows(tensor, (context) => mean(context)).slice(row, row + 1));
      const shift = 2 * (meanOf(inputs.context) - meanOf(empty));
      values.forEach((value, i) => {
        const actual = guidedResult["offlineSample"]!.data[row * values.length + i]!;
        expect(actual).toBeCloseTo(value - sigma * shift, 4);
      });
    });
    guidedResult["onlineSample"]!.data.forEach((value, i) =>
      expect(value).toBeCloseTo(plain["onlineSample"]!.data[i]!, 5),
    );
  });

  it("tells how much the samples vary beside the targets", async () => {
    const one = { noise: twice(inputs.noise), context: twice(inputs.context) };
    expect((await student({}, one))["spread"]!.item()).toBeLessThan(1e-4);
    const { sample } = await student();
    expect((await student({}, { target: sample! }))["spread"]!.item()).toBeCloseTo(1, 4);
  });

  it("refuses a target and an empty prompt of other shapes", async () => {
    const narrow = { target: HostTensor.filled([2, 3, 4, 1], 0) };
    await expect(student({}, narrow)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    const guidance = { scale: 2, unconditional: HostTensor.filled([3, 3], 0) };
    await expect(student({ guidance })).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    const infinite = { scale: Infinity, unconditional: HostTensor.filled([2, 3], 0) };
    await expect(student({ guidance: infinite })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});

/** The first sample in place of the second. */
function twice({ shape, data }: HostTensor): HostTensor {
  const first = data.subarray(0, data.length / 2);
  return HostTensor.from(shape, [...first, ...first]);
}

const onlineScope = <T>(ops: Ops<T>, given: TensorMap<T>) => scope(ops, given, "online");
