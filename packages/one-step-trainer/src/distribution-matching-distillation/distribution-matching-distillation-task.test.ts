import * as ort from "onnxruntime-node";
import { noiseSchedule, oneStepConversion } from "@sdxs/diffusion";
import {
  HostTensor,
  constantSchedule,
  convLayer,
  declareParameters,
  initialize,
  mapTensors,
  random,
} from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { memoryCheckpoints, train } from "@sdxs/training";
import { describe, expect, it } from "vitest";
import {
  distributionMatchingDistillationTask,
  oneStepGenerator,
  type DistributionMatchingDistillationTaskOptions,
  type FeatureExtractor,
  type ScoreFunction,
} from "../index.js";

const schedule = noiseSchedule();
const sampleShape = [2, 4, 4];
const batch = 2;
const features: FeatureExtractor = (ops, p, { sample }) => [ops.tanh(convLayer(ops, p.at("first"), sample, 8))];
const network: ScoreFunction = (ops, p, inputs) => convLayer(ops, p.at("last"), features(ops, p, inputs)[0]!, 2);
const weights = (seed: number) =>
  initialize(
    declareParameters((ops, p, { sample }) => network(ops, p, { sample, timestep: sample, context: sample }), {
      sample: { shape: [batch, ...sampleShape] },
    }),
    seed,
  );
const backend = onnxBackend({ ort });
const context = HostTensor.filled([batch, 1, 1], 0);

type Options = DistributionMatchingDistillationTaskOptions<Awaited<ReturnType<typeof backend.upload>>>;
const task = (options: Partial<Options> = {}) =>
  distributionMatchingDistillationTask({
    name: "dmd2",
    backend,
    seed: 3,
    steps: 3,
    sampleShape,
    contextShape: [1, 1],
    batchSize: batch,
    student: oneStepGenerator(network, oneStepConversion(schedule, { prediction: "v_prediction" })),
    onlineScore: network,
    offlineScore: network,
    features,
    prediction: "v_prediction",
    schedule,
    params: { student: weights(1), online: weights(2), teacher: weights(2) },
    contexts: () => context,
    reals: (update, microBatch) => ({
      real: random(4, update, microBatch).uniform([batch, ...sampleShape]),
      context,
    }),
    optimisation: {
      student: { optimizer: { emaDecay: 0.9 }, learningRate: constantSchedule(1e-2) },
      online: { optimizer: {}, learningRate: constantSchedule(1e-2) },
    },
    ...options,
  });

describe("distributionMatchingDistillationTask", () => {
  it("trains student, online DM and classifier, and the same from a checkpoint, bit for bit", async () => {
    const whole = await task();
    const begun = { student: await whole.weights("student"), online: await whole.weights("online") };
    expect(Object.keys(begun.online)).toEqual(
      expect.arrayContaining(["last.weight", "classifier.heads.0.logits.weight"]),
    );
    await train(whole);
    for (const who of ["student", "online"] as const) {
      const now = await whole.weights(who);
      // All of it learns: no tensor is as it was.
      for (const [name, { data }] of Object.entries(begun[who])) {
        expect(
          now[name]!.data.some((value, i) => value !== data[i]),
          `${who} ${name}`,
        ).toBe(true);
      }
    }

    const checkpoints = memoryCheckpoints();
    await train(await task({ steps: 2 }), { checkpoints });
    const resumed = await task();
    expect((await train(resumed, { checkpoints })).resumedFrom).toBe(2);
    const values = (tensors: Record<string, HostTensor>) => mapTensors(tensors, ({ data }) => [...data]);
    expect(values(await resumed.state())).toEqual(values(await whole.state()));
  });

  it("updates the online DM five times for each update of the student, by default", async () => {
    for (const [options, expected] of [
      [{}, [0, 1, 2, 3, 4]],
      [{ onlineUpdates: 2 }, [0, 1]],
    ] as const) {
      const updates: number[] = [];
      const reals = (update: number) => {
        updates.push(update);
        return { real: random(4, update).uniform([batch, ...sampleShape]), context };
      };
      const metrics = await (await task({ ...options, reals })).step(0);
      expect(updates).toEqual(expected);
      for (const name of ["online.denoising", "online.adversarial", "online.spread", "student.scoreGap"]) {
        expect(metrics[name], name).toBeGreaterThan(0);
      }
    }
  });

  it("shows the samples and what both scores make of them", async () => {
    const samples = await (await task()).samples(0);
    expect(Object.keys(samples)).toEqual(["sample", "onlineSample", "offlineSample"]);
    for (const { shape } of Object.values(samples)) expect(shape).toEqual([batch, ...sampleShape]);
    // As it begins the online DM is the offline one.
    samples.onlineSample.data.forEach((value, i) => expect(value).toBeCloseTo(samples.offlineSample.data[i]!, 5));
  });

  it("refuses timesteps out of range", async () => {
    await expect(task({ minTimestep: 1 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});
