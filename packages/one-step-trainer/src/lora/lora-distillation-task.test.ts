import * as ort from "onnxruntime-node";
import { noiseSchedule, oneStepConversion } from "@sdxs/diffusion";
import { mergeLora, readLora, writeLora } from "@sdxs/lora";
import { HostTensor, constantSchedule, convLayer, mapTensors, random, scope, type HostParams } from "@sdxs/tensor";
import type { Program } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { memoryCheckpoints, train } from "@sdxs/training";
import { describe, expect, it } from "vitest";
import {
  loraDistillationTask,
  oneStepGenerator,
  type LoraDistillationTaskOptions,
  type ScoreFunction,
} from "../index.js";
import { computeOnce } from "../shared/task-options.js";

const schedule = noiseSchedule();
const shape = [4, 2, 2, 2];

/** Predicts the clean sample: one matrix for each pixel. */
const network: ScoreFunction = (ops, p, { sample }) => convLayer(ops, p.at("mix"), sample, 2, { kernel: 1 });
const student = oneStepGenerator(network, oneStepConversion(schedule, { prediction: "sample" }));
const weights = (seed: number): HostParams => ({
  "mix.weight": random(seed).normal([2, 2, 1, 1]),
  "mix.bias": random(seed, "bias").normal([2]),
});
const B = [0.5, -1.5];
const style = {
  params: {
    "mix.lora_A.weight": HostTensor.from([1, 2, 1, 1], [0.4, 0.9]),
    "mix.lora_B.weight": HostTensor.from([2, 1, 1, 1], B),
  },
  alphas: { mix: 2 },
};
const pair = {
  noise: random(1).normal(shape),
  target: random(2).normal(shape),
  context: HostTensor.filled([4, 1, 1], 0),
};
const backend = onnxBackend({ ort, threads: 1 });
const learning = { optimizer: { weightDecay: 0, emaDecay: 0.9 }, learningRate: constantSchedule(0.02) };
const params = { student: weights(3), teacher: weights(4) };

const distillation = (options: Partial<LoraDistillationTaskOptions<Awaited<ReturnType<typeof backend.upload>>>> = {}) =>
  loraDistillationTask({
    name: "style",
    backend,
    seed: 5,
    steps: 4,
    sampleShape: [2, 2, 2],
    contextShape: [1, 1],
    batchSize: 4,
    student,
    onlineScore: network,
    offlineScore: network,
    prediction: "sample",
    schedule,
    features: (_ops, _p, { sample }) => [sample],
    params,
    pretrained: [{ ...style, weight: 0.5 }],
    lora: { rank: 1, targets: ["mix"] },
    pairs: () => pair,
    contexts: () => pair.context,
    alpha: constantSchedule(0.9),
    lambdaFM: constantSchedule(0.5),
    optimisation: { student: learning, online: learning },
    ...options,
  });
const values = (tensors: HostParams) => mapTensors(tensors, ({ data }) => [...data]);
const samplesOf: Program<"noise" | "context", "sample"> = (ops, all, inputs) => ({
  sample: student(ops, scope(ops, all), inputs),
});
const specs = { noise: { shape }, context: { shape: [4, 1, 1] } };

describe("loraDistillationTask", () => {
  it("adds the pretrained LoRA to the offline DM, and neither to the online DM nor to the student", async () => {
    const { sample, onlineSample, offlineSample } = await (await distillation()).samples(0);
    const plain = await computeOnce(backend, samplesOf, params.student, specs, pair);
    sample.data.forEach((value, i) => expect(value).toBeCloseTo(plain.sample.data[i]!, 5));
    // Offline and online DM differ by B A x_t: its two channels are as the two numbers of B.
    for (let row = 0; row < 4; row++) {
      for (let pixel = 0; pixel < 4; pixel++) {
        const [first, second] = [0, 4].map((channel) => {
          const at = 8 * row + channel + pixel;
          return offlineSample.data[at]! - onlineSample.data[at]!;
        });
        expect(first! * B[1]!).toBeCloseTo(second! * B[0]!, 4);
        expect(Math.abs(first!)).toBeGreaterThan(1e-4);
      }
    }
  });

  it("trains the student's LoRA alone, beside the online DM, and the same from a checkpoint, bit for bit", async () => {
    const whole = await distillation();
    await train(whole);
    expect(Object.keys(await whole.weights("student"))).toEqual(["lora.mix.lora_A.weight", "lora.mix.lora_B.weight"]);
    expect(Object.keys(await whole.weights("online"))).toEqual(Object.keys(params.teacher));
    expect((await whole.lora()).params["mix.lora_B.weight"]!.data.every((value) => value !== 0)).toBe(true);
    const checkpoints = memoryCheckpoints();
    await train(await distillation({ steps: 2 }), { checkpoints });
    const resumed = await distillation();
    expect((await train(resumed, { checkpoints })).resumedFrom).toBe(2);
    expect(values(await resumed.state())).toEqual(values(await whole.state()));
  });

  it("gives a LoRA that files of diffusers hold, and that merges into the student", async () => {
    const trained = await distillation({ lora: { rank: 2, alpha: 3, targets: ["mix"] } });
    await train(trained);
    const lora = await trained.lora();
    const models = { unet: params.student };
    const tensors = writeLora({ unet: lora }, models, "diffusers");
    expect(Object.keys(tensors)).toContain("unet.mix.lora_A.weight");
    const { sample } = await trained.samples(0);
    const merged = mergeLora(params.student, [readLora({ tensors }, models).loras.unet]);
    const made = await computeOnce(backend, samplesOf, merged, specs, pair);
    made.sample.data.forEach((value, i) => expect(value).toBeCloseTo(sample.data[i]!, 5));
  });

  it("refuses targets that the student lacks, and a pretrained LoRA of another network", async () => {
    await expect(distillation({ lora: { rank: 1 } })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const other = { params: { "x.lora_A.weight": HostTensor.filled([1, 2], 1) }, alphas: {} };
    await expect(distillation({ pretrained: [other] })).rejects.toMatchObject({ code: "UNEXPECTED_PARAMETER" });
  });
});
