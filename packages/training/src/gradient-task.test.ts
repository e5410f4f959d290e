import * as tf from "@tensorflow/tfjs";
import * as ort from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { HostTensor, constantSchedule, mapTensors, type Backend, type TensorMap } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { tfjsBackend } from "@sdxs/tensor/tfjs";
import { BATCH, exampleImages, exampleParams, exampleProgram, exampleTask } from "./example-task.test-support.js";
import { gradientTask, type GradientTask } from "./gradient-task.js";
import type { NonFiniteError } from "./non-finite.js";
import { train } from "./train.js";

const backends: { name: string; open: () => Promise<Backend<unknown>> }[] = [
  { name: "onnx", open: async () => onnxBackend({ ort }) },
  { name: "tfjs", open: async () => await tfjsBackend({ tf, backend: "cpu" }) },
];

const values = (tensors: TensorMap<HostTensor>) => mapTensors(tensors, ({ data }) => [...data]);

async function runSteps(task: GradientTask, begin: number, end: number): Promise<void> {
  for (let step = begin; step < end; step++) await task.step(step);
}

/** Gives images that hold a NaN in the given steps. */
const poisoned =
  (...steps: readonly number[]) =>
  (step: number, microBatch: number) => {
    const image = exampleImages(step, microBatch);
    if (steps.includes(step)) image.data[5] = NaN;
    return { image };
  };

describe.each(backends)("gradientTask on $name", ({ open }) => {
  it("learns, and reports scalar outputs, the gradient's norm and the learning rate", async () => {
    const task = await exampleTask(await open());
    const first = await task.step(0);
    expect(Object.keys(first).sort()).toEqual(["absoluteError", "gradientNorm", "learningRate", "loss"]);
    expect(first.learningRate).toBe(0.01);
    expect(first.gradientNorm).toBeGreaterThan(0);
    await runSteps(task, 1, 30);
    const last = await task.step(30);
    expect(last.loss).toBeLessThan(first.loss! / 5);
    await task.dispose();
  });

  it("gives with two micro-batches the update of one batch of twice the size", async () => {
    const backend = await open();
    const accumulated = await exampleTask(backend, { microBatches: 2 });
    const joined = await exampleTask(backend, {
      inputs: { image: { shape: [2 * BATCH, 3, 8, 8] } },
      batch: (step) => ({ image: exampleImages(step, 0, 2) }),
    });
    for (let step = 0; step < 5; step++) {
      const [a, b] = [await accumulated.step(step), await joined.step(step)];
      for (const [name, value] of Object.entries(a)) expect(value, name).toBeCloseTo(b[name]!, 5);
    }
    const [a, b] = [await accumulated.weights(), await joined.weights()];
    // AdamW divides by the gradient's size, which enlarges float32's rounding (6e-8) of small gradients: 5 steps of 0.01.
    for (const name of Object.keys(a)) {
      for (const [index, value] of a[name]!.data.entries()) {
        expect(Math.abs(value - b[name]!.data[index]!), name).toBeLessThan(2e-5);
      }
    }
  });

  it("sums up the gradients of parameters that share one gradient tensor", async () => {
    // loss = mean((x + a + b)^2): at a = b = 0 the gradient of both is 2 mean(x) = 3, and so is its mean over micro-batches.
    const task = await gradientTask({
      name: "shared",
      backend: await open(),
      program: (ops, { a, b }, { x }) => ({ loss: ops.mean(ops.square(ops.add(ops.add(x, a!), b!))) }),
      params: { a: HostTensor.scalar(0), b: HostTensor.scalar(0) },
      inputs: { x: { shape: [2] } },
      batch: () => ({ x: HostTensor.from([2], [1, 2]) }),
      microBatches: 3,
      optimizer: {},
      learningRate: constantSchedule(0.1),
      steps: 1,
    });
    const { gradientNorm } = await task.step(0);
    expect(gradientNorm).toBeCloseTo(3 * Math.SQRT2, 6);
  });

  it("continues in another task from its state, bit for bit", async () => {
    const backend = await open();
    const whole = await exampleTask(backend);
    await runSteps(whole, 0, 10);
    const before = await exampleTask(backend);
    await runSteps(before, 0, 4);
    const after = await exampleTask(backend);
    await after.restore(await before.state());
    await runSteps(after, 4, 10);
    expect(values(await after.state())).toEqual(values(await whole.state()));
  });

  it("gives out averaged weights beside the live ones", async () => {
    const task = await exampleTask(await open(), { optimizer: { emaDecay: 0.5 } });
    const initial = values(exampleParams).kernel!;
    await task.step(0);
    const live = values(await task.weights()).kernel!;
    const averaged = values(await task.weights({ averaged: true })).kernel!;
    for (const [index, value] of averaged.entries()) {
      expect(value).toBeCloseTo(0.5 * initial[index]! + 0.5 * live[index]!, 6); // decay * average + (1 - decay) * weight
    }
    const plain = await exampleTask(await open(), { optimizer: {} });
    await expect(plain.weights({ averaged: true })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  it("shows the program the averaged weights under a prefix, without a gradient through them", async () => {
    // loss = w target.w: its gradient is target.w, 1 and then 0.5 * 1 + 0.5 * w.
    const task = await gradientTask({
      name: "followed",
      backend: await open(),
      program: (ops, { w, "target.w": target }) => ({ loss: ops.mul(w!, target!) }),
      params: { w: HostTensor.scalar(1) },
      inputs: {},
      batch: () => ({}),
      optimizer: { emaDecay: 0.5 },
      averageAs: "target.",
      learningRate: constantSchedule(0.1),
      steps: 2,
    });
    expect((await task.step(0)).gradientNorm).toBeCloseTo(1, 6);
    const { w } = await task.weights();
    expect((await task.step(1)).gradientNorm).toBeCloseTo(0.5 + 0.5 * w!.item(), 6);
  });

  it("trains some parameters and bakes in the others", async () => {
    const { kernel, ...rest } = exampleParams;
    const task = await exampleTask(await open(), { params: rest, frozen: { kernel: kernel! } });
    await runSteps(task, 0, 3);
    expect(Object.keys(await task.weights())).toEqual(["weight", "bias"]);
  });

  it("stops at a loss that is not finite, with the parameters as they were, and names what it was computed from", async () => {
    const task = await exampleTask(await open(), { batch: poisoned(2), microBatches: 2 });
    await runSteps(task, 0, 2);
    const before = values(await task.state());
    const tensors = expect.arrayContaining(["loss", "absoluteError", "input.image"]);
    await expect(task.step(2)).rejects.toMatchObject({ code: "NON_FINITE", step: 2, tensors });
    expect(values(await task.state())).toEqual(before);

    const broken = { ...exampleParams, bias: HostTensor.filled(exampleParams.bias!.shape, NaN) };
    await expect((await exampleTask(await open(), { params: broken })).step(0)).rejects.toMatchObject({
      tensors: expect.arrayContaining(["loss", "param.bias"]),
    });
  });

  it("names the first gradients that are not finite where the loss is", async () => {
    // The square root's slope at 0 is infinite: a gradient of NaN or infinity for the kernel, none for the bias.
    const task = await exampleTask(await open(), {
      program: (ops, params, inputs) => {
        const { loss } = exampleProgram(ops, params, inputs);
        const root = ops.sqrt(ops.mul(ops.square(ops.mean(params.kernel!)), 0));
        return { loss: ops.add(loss!, root) };
      },
    });
    const before = values(await task.state());
    await expect(task.step(0)).rejects.toMatchObject({
      code: "NON_FINITE",
      tensors: ["grad.kernel"],
      message: expect.stringContaining("grad.kernel"),
    });
    expect(values(await task.state())).toEqual(before);
  });

  it("skips steps that are not finite, counts them and goes on as if they had not been", async () => {
    const backend = await open();
    const errors: NonFiniteError[] = [];
    const skipping = await exampleTask(backend, {
      batch: poisoned(1, 3),
      microBatches: 2,
      onNonFinite: "skip",
      onSkipped: (error) => errors.push(error),
    });
    const metrics = [];
    for (let step = 0; step < 5; step++) metrics.push(await skipping.step(step));
    expect(metrics.map(({ skippedSteps }) => skippedSteps)).toEqual([0, 1, 1, 2, 2]);
    expect(metrics[1]!.loss).toBeNaN();
    expect(errors.map(({ step }) => step)).toEqual([1, 3]);
    expect(errors[0]?.tensors).toContain("input.image");

    const without = await exampleTask(backend, { microBatches: 2 });
    for (const step of [0, 2, 4]) await without.step(step);
    expect(values(await skipping.weights())).toEqual(values(await without.weights()));
  });

  it("gives up after too many skipped steps in a row, also across a resume", async () => {
    const backend = await open();
    const options = { batch: poisoned(0, 2, 3, 4), onNonFinite: "skip" as const, maxConsecutiveSkips: 3 };
    const task = await exampleTask(backend, options);
    await runSteps(task, 0, 4); // one skip, a step, two skips
    const resumed = await exampleTask(backend, options);
    await resumed.restore(await task.state());
    const failure = { code: "NON_FINITE", step: 4, message: expect.stringContaining("last of 3") };
    await expect(resumed.step(4)).rejects.toMatchObject(failure);
  });

  it("drops the gradients of a step that was aborted or whose batch failed", async () => {
    const backend = await open();
    const controller = new AbortController();
    let fault = "abort";
    const task = await exampleTask(backend, {
      microBatches: 3,
      batch: (step, microBatch) => {
        if (microBatch === 1 && fault === "abort") controller.abort();
        if (microBatch === 2 && fault === "batch") throw new Error("no such image");
        return { image: exampleImages(step, microBatch) };
      },
    });
    await expect(task.step(0, controller.signal)).rejects.toMatchObject({ code: "ABORTED" });
    fault = "batch";
    await expect(task.step(0)).rejects.toThrow("no such image");
    fault = "none";
    await task.step(0);
    const clean = await exampleTask(backend, { microBatches: 3 });
    await clean.step(0);
    expect(values(await task.state())).toEqual(values(await clean.state()));
  });

  it("leaks no tensors", async () => {
    const backend = await open();
    const begin = backend.memory().tensors;
    const task = await exampleTask(backend, { batch: poisoned(2), microBatches: 2, onNonFinite: "skip" });
    await task.step(0);
    const afterOne = backend.memory().tensors;
    await runSteps(task, 1, 6);
    expect(backend.memory().tensors).toBe(afterOne);
    await task.dispose();
    expect(backend.memory().tensors).toBe(begin);
  });

  it("runs in the loop", async () => {
    const task = await exampleTask(await open(), { steps: 3, batchSize: BATCH });
    const samples: (number | undefined)[] = [];
    await train(task, { onProgress: (progress) => samples.push(progress.samples) });
    expect(samples).toEqual([4, 8, 12]);
  });
});

it("gradientTask refuses options that are out of range", async () => {
  const backend = onnxBackend({ ort });
  await expect(exampleTask(backend, { microBatches: 0 })).rejects.toThrow("microBatches must be a whole number");
  await expect(exampleTask(backend, { steps: 1.5 })).rejects.toThrow("steps must be a whole number");
  await expect(exampleTask(backend, { params: {} })).rejects.toThrow("at least one parameter to train, got none");
});
