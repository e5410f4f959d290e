import * as ort from "onnxruntime-node";
import { mergeLora, readLora, writeLora } from "@sdxs/lora";
import {
  HostTensor,
  constantSchedule,
  convLayer,
  declareParameters,
  initialize,
  mapTensors,
  random,
  scope,
  type Program,
} from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { memoryCheckpoints, train } from "@sdxs/training";
import { describe, expect, it } from "vitest";
import {
  featureDiscriminatorParameters,
  textureFinetuneTask,
  type FeatureExtractor,
  type Generator,
  type TextureFinetuneTaskOptions,
} from "../index.js";
import { computeOnce } from "../shared/task-options.js";

const sampleShape = [2, 4, 4];
const batch = 4;
const student: Generator = (ops, p, { noise }) =>
  convLayer(ops, p.at("last"), ops.tanh(convLayer(ops, p.at("first"), noise, 8)), 2);
const features: FeatureExtractor = (ops, p, { sample }) => [ops.tanh(convLayer(ops, p.at("encoder"), sample, 8))];
const specs = { noise: { shape: [batch, ...sampleShape] }, context: { shape: [batch, 1, 1] } };
const params = {
  student: initialize(declareParameters(student, specs), 1),
  teacher: initialize(
    declareParameters(
      (ops, p, { noise }) => features(ops, p, { sample: noise, timestep: noise, context: noise }),
      specs,
    ),
    2,
  ),
};
const backend = onnxBackend({ ort });

type Options = TextureFinetuneTaskOptions<Awaited<ReturnType<typeof backend.upload>>>;
const task = (options: Partial<Options> = {}) =>
  textureFinetuneTask({
    name: "texture",
    backend,
    seed: 3,
    steps: 4,
    sampleShape,
    contextShape: [1, 1],
    batchSize: batch,
    student,
    features,
    params,
    lora: { rank: 1, targets: ["first", "last"] },
    pairs: (update, microBatch) => ({
      noise: random(4, "noise", update, microBatch).normal([batch, ...sampleShape]),
      target: random(4, "target", update, microBatch).uniform([batch, ...sampleShape]),
      context: HostTensor.filled([batch, 1, 1], 0),
    }),
    optimisation: {
      lora: { optimizer: { weightDecay: 0, emaDecay: 0.9 }, learningRate: constantSchedule(1e-2) },
      discriminator: { optimizer: { weightDecay: 0 }, learningRate: constantSchedule(1e-2) },
    },
    ...options,
  });
const values = (tensors: Record<string, HostTensor>) => mapTensors(tensors, ({ data }) => [...data]);

describe("textureFinetuneTask", () => {
  it("begins with the student's own samples, and gives other ones by training", async () => {
    const trained = await task();
    const before = await trained.samples(0);
    expect(before.sample.shape).toEqual([batch, ...sampleShape]);
    expect([...before.sample.data]).toEqual([...before.unadapted.data]);
    const metrics = await trained.step(0);
    for (const name of ["discriminator.loss", "discriminator.realLogit", "lora.adversarial", "lora.spread"]) {
      expect(metrics[name], name).toBeTypeOf("number");
    }
    const after = await trained.samples(0);
    expect([...after.unadapted.data]).toEqual([...before.unadapted.data]);
    expect([...after.sample.data]).not.toEqual([...before.sample.data]);
    await trained.dispose();
  });

  it("goes on from a checkpoint the same, bit for bit", async () => {
    const whole = await task({ discriminatorUpdates: 2, microBatches: 2 });
    await train(whole);
    const checkpoints = memoryCheckpoints();
    await train(await task({ discriminatorUpdates: 2, microBatches: 2, steps: 2 }), { checkpoints });
    const resumed = await task({ discriminatorUpdates: 2, microBatches: 2 });
    expect((await train(resumed, { checkpoints })).resumedFrom).toBe(2);
    expect(values(await resumed.state())).toEqual(values(await whole.state()));
  });

  it("lets the LoRA please a discriminator that stands still", async () => {
    const learning = (rate: number) => ({ optimizer: { weightDecay: 0 }, learningRate: constantSchedule(rate) });
    const pairs = {
      noise: random(5).normal([batch, ...sampleShape]),
      target: random(6).uniform([batch, ...sampleShape]),
      context: HostTensor.filled([batch, 1, 1], 0),
    };
    const optimisation = { lora: learning(1e-2), discriminator: learning(0) };
    const trained = await task({ steps: 10, lambdaFM: 0, pairs: () => pairs, optimisation });
    const history: (number | undefined)[] = [];
    for (let step = 0; step < trained.steps; step++) history.push((await trained.step(step))["lora.adversarial"]);
    expect(history.at(-1)).toBeLessThan(history[0]!);
    expect(history).toEqual([...history].sort((a, b) => b! - a!));
  });

  it("gives a LoRA that files of diffusers hold, and that merges into the student", async () => {
    const trained = await task({ lora: { rank: 2, alpha: 4, targets: ["first", "last"] } });
    await train(trained);
    const lora = await trained.lora();
    expect(values((await trained.lora({ averaged: true })).params)).not.toEqual(values(lora.params));

    const models = { unet: params.student };
    const { loras } = readLora({ tensors: writeLora({ unet: lora }, models, "diffusers") }, models);
    const { sample } = await trained.samples(0);
    const program: Program<"noise" | "context", "sample"> = (ops, all, inputs) => ({
      sample: student(ops, scope(ops, all), inputs),
    });
    const inputs = {
      noise: random(4, "noise", 0, 0).normal([batch, ...sampleShape]),
      context: HostTensor.filled([batch, 1, 1], 0),
    };
    for (const stored of [lora, loras.unet]) {
      const merged = await computeOnce(backend, program, mergeLora(params.student, [stored]), specs, inputs);
      merged.sample.data.forEach((value, i) => expect(value).toBeCloseTo(sample.data[i]!, 5));
    }
  });

  it("refuses targets that the student has no layers for, as those of U-Nets", async () => {
    await expect(task({ lora: {} })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});

describe("featureDiscriminatorParameters", () => {
  it("are those of the heads alone, one for each map", () => {
    const specs = featureDiscriminatorParameters({ features }, { sampleShape, contextShape: [1, 1] });
    expect(Object.keys(specs)).toContain("heads.0.logits.weight");
    expect(Object.keys(specs).every((name) => name.startsWith("heads.0."))).toBe(true);
    expect(specs["heads.0.project.conv.weight"]?.shape).toEqual([64, 8, 1, 1]);
  });
});
