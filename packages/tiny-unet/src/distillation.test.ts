import { initialize, prefixed, random, scope, HostTensor, type Ops, type TensorMap } from "@sdxs/tensor";
import { maxAbs, referenceCase, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import {
  copyParameters,
  namedFeatures,
  parseUNetConfig,
  planBlockRemoval,
  unet,
  unetDistillation,
  unetParameters,
  type BlockRemovalPlan,
} from "./index.js";

const teacher = parseUNetConfig({
  ...((await referenceCase(new URL("../fixtures/unet_sd21_mini/", import.meta.url)).json("config.json")) as object),
});
const plan = planBlockRemoval(teacher, "sdxs-512");
const teacherParams = initialize(unetParameters(teacher), 1);
const paramsFor = (plan: BlockRemovalPlan) => ({
  ...prefixed(teacherParams, "teacher."),
  ...prefixed({ ...initialize(unetParameters(plan.config), 2), ...copyParameters(plan, teacherParams) }, "student."),
});
const inputs = {
  sample: random(3).normal([2, teacher.in_channels, 16, 16]),
  timestep: HostTensor.from([2], [20, 700]),
  encoderHiddenStates: random(4).normal([2, 5, teacher.cross_attention_dim]),
};

const meanSquare = (a: HostTensor, b: HostTensor): number =>
  Array.from(a.data).reduce((sum, value, i) => sum + (value - b.data[i]!) ** 2, 0) / a.data.length;

describe.each(testBackends)("U-Net distillation on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("is Equation 8 of the two networks' outputs and paired features", async () => {
    const params = paramsFor(plan);
    const networks = <T>(ops: Ops<T>, given: TensorMap<T>, data: Readonly<Record<keyof typeof inputs, T>>) => {
      const original = unet(ops, scope(ops, given, "teacher"), teacher, data);
      const student = unet(ops, scope(ops, given, "student"), plan.config, data);
      return {
        ...prefixed({ out: original.sample, ...namedFeatures(original.features) }, "teacher."),
        ...prefixed({ out: student.sample, ...namedFeatures(student.features) }, "student."),
      };
    };
    const maps = await run<keyof typeof inputs, string>(networks, params, inputs);
    const outputLoss = meanSquare(maps["student.out"]!, maps["teacher.out"]!);
    const weights = plan.features.map((_, l) => l + 1);
    const featureLoss = plan.features.reduce(
      (sum, pair, l) => sum + (l + 1) * meanSquare(maps[`student.${pair.student}`]!, maps[`teacher.${pair.teacher}`]!),
      0,
    );

    const program = unetDistillation({ teacher, plan, featureWeight: 0.5, featureWeights: weights });
    const result = await run(program, params, inputs);
    expect(outputLoss).toBeGreaterThan(0);
    expect(result.outputLoss.item() / outputLoss).toBeCloseTo(1, 4);
    expect(result.featureLoss.item() / featureLoss).toBeCloseTo(1, 4);
    expect(result.loss.item() / (outputLoss + 0.5 * featureLoss)).toBeCloseTo(1, 4);
    expect(result.perSample.shape).toEqual([2]);
    expect((result.perSample.data[0]! + result.perSample.data[1]!) / 2 / result.loss.item()).toBeCloseTo(1, 5);

    const outputOnly = await run(unetDistillation({ teacher, plan, featureWeight: 0 }), params, inputs);
    expect(outputOnly.loss.item() / outputLoss).toBeCloseTo(1, 4);
    const featuresOnly = await run(
      unetDistillation({ teacher, plan, outputWeight: 0, featureWeight: 0.5, featureWeights: weights }),
      params,
      inputs,
    );
    expect(featuresOnly.loss.item() / (0.5 * featureLoss)).toBeCloseTo(1, 4);
    expect(featuresOnly.outputLoss.item() / outputLoss).toBeCloseTo(1, 4);
  });

  it("is 0 for a student from which nothing was removed", async () => {
    const whole = planBlockRemoval(teacher, {});
    const { loss } = await run(unetDistillation({ teacher, plan: whole }), paramsFor(whole), inputs);
    expect(loss.item()).toBe(0);
  });

  it("teaches every parameter of the student and none of the teacher", async () => {
    const distill = unetDistillation({ teacher, plan });
    const gradients = <T>(ops: Ops<T>, given: TensorMap<T>, data: Readonly<Record<keyof typeof inputs, T>>) =>
      ops.valueAndGrad((varied) => ({ loss: distill(ops, varied, data).loss, aux: {} }), given).grads;
    const grads = await run<keyof typeof inputs, string>(gradients, paramsFor(plan), inputs);
    for (const [name, gradient] of Object.entries(grads)) {
      if (name.startsWith("teacher.")) expect(maxAbs(gradient), name).toBe(0);
      else expect(maxAbs(gradient), name).toBeGreaterThan(0);
    }
  });

  it("refuses weights that are all 0", () => {
    expect(() => unetDistillation({ teacher, plan, outputWeight: 0, featureWeight: 0 })).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }),
    );
  });

  it("names a feature that a network lacks", async () => {
    const wrong = { ...plan, features: [{ teacher: "down_blocks.9", student: "down_blocks.0" }] };
    await expect(run(unetDistillation({ teacher, plan: wrong }), paramsFor(plan), inputs)).rejects.toThrow(
      /the teacher has no feature "down_blocks.9"/,
    );
  });
});
