import * as tf from "@tensorflow/tfjs";
import * as ort from "onnxruntime-node";
import { HostTensor, constantSchedule, mapTensors, random, type Backend, type TensorMap } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { tfjsBackend } from "@sdxs/tensor/tfjs";
import { describe, expect, it } from "vitest";
import { alternatingTask, memoryCheckpoints, train, type AlternatingTaskOptions } from "./index.js";

const backends: { name: string; open: () => Promise<Backend<unknown>> }[] = [
  { name: "onnx", open: async () => onnxBackend({ ort }) },
  { name: "tfjs", open: async () => await tfjsBackend({ tf, backend: "cpu" }) },
];

type Inputs = { critic: "point"; mover: "start" };

/**
 * The mover minimises (x + start - critic)^2 / 2, the critic (c - x - point)^2 / 2: by plain descent of momentum 0 their
 * gradients are x + start - c and c - x - point.
 */
function chase<D>(backend: Backend<D>, options: Partial<AlternatingTaskOptions<D, Inputs>> = {}) {
  const scalar = (value: number) => HostTensor.scalar(value);
  return alternatingTask<D, Inputs>({
    name: "chase",
    backend,
    steps: 6,
    learners: {
      critic: {
        updates: 2,
        program: (ops, params, { point }) => {
          const error = ops.sub(params["critic.c"]!, ops.add(params["mover.x"]!, point));
          return { loss: ops.mul(ops.square(error), 0.5), error };
        },
        params: { c: scalar(3) },
        inputs: { point: { shape: [] } },
        batch: (update, microBatch) => ({ point: random(1, "point", update, microBatch).normal([]) }),
        optimizer: { weightDecay: 0 },
        learningRate: constantSchedule(0.1),
      },
      mover: {
        program: (ops, params, { start }) => ({
          loss: ops.mul(ops.square(ops.sub(ops.add(params["mover.x"]!, start), params["critic.c"]!)), 0.5),
        }),
        params: { x: scalar(-1) },
        inputs: { start: { shape: [] } },
        batch: (update) => ({ start: scalar(0.01 * update) }),
        optimizer: { weightDecay: 0, emaDecay: 0.5 },
        learningRate: constantSchedule(0.2),
      },
    },
    ...options,
  });
}

const values = (tensors: TensorMap<HostTensor>) => mapTensors(tensors, ({ data }) => [...data]);

describe.each(backends)("alternatingTask on $name", ({ open }) => {
  it("lets each learner see the others' parameters as the updates before left them", async () => {
    const task = await chase(await open());
    const points = [0, 1, 2, 3].map((update) => random(1, "point", update, 0).normal([]).item());
    // AdamW's first update moves by the learning rate against the gradient's sign: here 3 - (-1 + point) > 0.
    const first = await task.step(0);
    const afterOne = 3 - 0.1;
    expect(first["critic.error"]).toBeCloseTo((3 + 1 - points[0]! + (afterOne + 1 - points[1]!)) / 2, 5);
    const { c } = await task.weights("critic");
    // The mover's loss is that against the critic after its second update, and it moves towards it.
    expect(first.loss).toBeCloseTo((-1 + 0 - c!.item()) ** 2 / 2, 5);
    expect(first.loss).toBe(first["mover.loss"]);
    expect((await task.weights("mover"))["x"]!.item()).toBeCloseTo(-1 + 0.2, 5);
    expect((await task.weights("mover", { averaged: true }))["x"]!.item()).toBeCloseTo(-1 + 0.1, 5);
    const second = await task.step(1);
    expect(Object.keys(second).sort()).toEqual(
      [
        ...["error", "gradientNorm", "learningRate", "loss"].map((name) => `critic.${name}`),
        "loss",
        ...["gradientNorm", "learningRate", "loss"].map((name) => `mover.${name}`),
      ].sort(),
    );
    await task.dispose();
  });

  it("numbers a learner's updates over the whole training", async () => {
    const seen: [update: number, microBatch: number][] = [];
    const task = await alternatingTask({
      name: "counted",
      backend: await open(),
      steps: 2,
      learners: {
        line: {
          program: (ops, params, { x }) => ({ loss: ops.square(ops.sub(params["line.w"]!, x!)) }),
          params: { w: HostTensor.scalar(0) },
          inputs: { x: { shape: [] } },
          batch(update, microBatch) {
            seen.push([update, microBatch]);
            return { x: HostTensor.scalar(1) };
          },
          updates: 2,
          microBatches: 2,
          optimizer: {},
          learningRate: constantSchedule(0.1),
        },
      },
    });
    await train(task);
    expect(seen).toEqual([0, 1, 2, 3].flatMap((update) => [0, 1].map((microBatch) => [update, microBatch])));
  });

  it("continues from a checkpoint, bit for bit", async () => {
    const whole = await chase(await open());
    await train(whole);
    const checkpoints = memoryCheckpoints();
    await train(await chase(await open(), { steps: 2 }), { checkpoints });
    const resumed = await chase(await open());
    expect((await train(resumed, { checkpoints })).resumedFrom).toBe(2);
    expect(values(await resumed.state())).toEqual(values(await whole.state()));
  });
});

describe("alternatingTask", () => {
  const backend = onnxBackend({ ort });

  it("stops before a step and never within one when aborted", async () => {
    const task = await chase(backend);
    await expect(task.step(0, AbortSignal.abort())).rejects.toMatchObject({ code: "ABORTED" });
    expect((await task.weights("critic"))["c"]!.item()).toBe(3);
  });

  it("names the learner and the gradient that is not finite", async () => {
    const task = await alternatingTask({
      name: "broken",
      backend,
      steps: 1,
      learners: {
        student: {
          program: (ops, params, { x }) => ({ loss: ops.mul(ops.sqrt(params["student.w"]!), x!) }),
          params: { w: HostTensor.scalar(0) },
          inputs: { x: { shape: [] } },
          batch: () => ({ x: HostTensor.scalar(1) }),
          optimizer: {},
          learningRate: constantSchedule(0.1),
        },
      },
    });
    await expect(task.step(0)).rejects.toMatchObject({ code: "NON_FINITE", tensors: ["grad.student.w"] });
  });

  it("refuses what it cannot run", async () => {
    const invalid = expect.objectContaining({ code: "INVALID_ARGUMENT" });
    await expect(alternatingTask({ name: "none", backend, learners: {}, steps: 1 })).rejects.toEqual(invalid);
    await expect(chase(backend, { steps: 0 })).rejects.toEqual(invalid);
    const task = await chase(backend);
    expect(() => task.weights("teacher" as "critic")).toThrow(invalid);
  });
});
