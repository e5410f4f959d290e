import { afterEach, describe, expect, test, vi } from "vitest";
import { create } from "webgpu";
import {
  HostTensor,
  mapTensors,
  random,
  select,
  withGradients,
  type AdamWOptions,
  type Program,
  type TensorMap,
} from "@sdxs/tensor";
import { discriminatorLoss } from "@sdxs/losses";
import { gradientTask } from "@sdxs/training";
import { DAWN_FEATURES, requestGpuDevice, webgpuBackend, type GpuTensor } from "@sdxs/tensor/webgpu";
import { GpuMemory } from "../../packages/tensor/src/webgpu/memory.js";
import { gpuTrainable } from "../../packages/tensor/src/webgpu/buffer-layout.js";
import { prepareDawn } from "./dawn.js";

prepareDawn();
afterEach(() => {
  vi.restoreAllMocks();
});

const learningRate = 0.01;
const tensors = (seed: string, count = 7): TensorMap<HostTensor> =>
  Object.fromEntries(
    Array.from({ length: count }, (_, i) => [`p${i}`, random(i, seed).normal([2, 17 * i + 1])] as const),
  );

describe("a training on a device that computes nothing", () => {
  const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);

  /** Drives a program's training for three steps, and counts the calls of each. */
  async function train(parameters: number) {
    const device = await requestGpuDevice(gpu);
    const backend = webgpuBackend({ device });
    const initial = tensors("initial", parameters);
    const specs = mapTensors(initial, ({ shape }) => ({ shape }));
    const program: Program = (ops, params, { x }) => ({
      loss: Object.values(params)
        .map((param) => ops.sum(ops.square(ops.mul(param, x!))))
        .reduce((sum, term) => ops.add(sum, term)),
    });
    const compiled = await backend.compile(withGradients(program, Object.keys(initial)), {
      params: specs,
      inputs: { x: { shape: [] } },
    });
    const trainable = backend.trainable(initial, { clipNorm: 1, emaDecay: 0.9 });
    const groups = vi.spyOn(device, "createBindGroup");
    const dispatches = vi.spyOn(GPUComputePassEncoder.prototype, "dispatchWorkgroups");
    const steps = [];
    for (let i = 0; i < 3; i++) {
      groups.mockClear();
      const { loss, ...gradients } = await compiled.run(trainable.params, { x: HostTensor.scalar(i) });
      const groupsOfRun = groups.mock.calls.length;
      backend.dispose(loss!);
      trainable.accumulate(select(gradients, "grad."));
      dispatches.mockClear();
      await trainable.step({ learningRate });
      steps.push({
        groupsOfRun,
        dispatches: dispatches.mock.calls.length,
        buffers: Object.values(trainable.params).map(({ buffer }) => buffer),
      });
    }
    trainable.dispose();
    await compiled.dispose();
    device.destroy();
    return steps;
  }

  test("a step takes as many dispatches over many parameters as over few", async () => {
    const [few] = await train(3);
    const [many] = await train(40);
    expect(many!.dispatches).toBe(few!.dispatches);
  });

  test("parameters keep their buffers, and a program runs with the groups that it has", async () => {
    const [first, second, third] = await train(20);
    expect(third!.buffers).toEqual(first!.buffers);
    expect(first!.groupsOfRun).toBeGreaterThan(20);
    expect([second!.groupsOfRun, third!.groupsOfRun]).toEqual([0, 0]);
  });
});

const gpu = create([DAWN_FEATURES]);

if ((await gpu.requestAdapter()) === null) {
  test.skip("training with WebGPU in Node (no Vulkan device: install libvulkan1 and chromium, or a GPU's driver)");
} else {
  describe("a training in several buffers", () => {
    const inPieces = 1024;

    async function start(options: AdamWOptions, mostBytes?: number) {
      const memory = new GpuMemory(await requestGpuDevice(gpu));
      const trainable = gpuTrainable(memory, tensors("initial"), options, mostBytes);
      const upload = (host: TensorMap<HostTensor>): TensorMap<GpuTensor> =>
        mapTensors(host, (tensor) => memory.upload(tensor));
      return {
        memory,
        trainable,
        step: (...batches: TensorMap<HostTensor>[]) => {
          for (const gradients of batches) trainable.accumulate(upload(gradients));
          return trainable.step({ learningRate });
        },
      };
    }

    test("is that in one, bit for bit", async () => {
      const found = [];
      for (const mostBytes of [inPieces, undefined]) {
        const { memory, trainable, step } = await start({ emaDecay: 0.9 }, mostBytes);
        const buffers = new Set(Object.values(trainable.params).map(({ buffer }) => buffer)).size;
        const norms = [];
        norms.push((await step(tensors("a"), tensors("b"), tensors("c"))).gradientNorm);
        norms.push((await step(tensors("d"))).gradientNorm);
        const params = await Promise.all(Object.values(trainable.params).map((param) => memory.download(param)));
        found.push({ buffers, norms, params, state: await trainable.state() });
        trainable.dispose();
        expect(memory.counts()).toEqual({ tensors: 0, bytes: 0 });
      }
      const [several, one] = found;
      expect([several!.buffers, one!.buffers]).toEqual([5, 1]);
      expect(several!.state).toEqual(one!.state);
      expect(several!.params).toEqual(Object.values(select(several!.state, "params.")));
      several!.norms.forEach((norm, i) => expect(norm / one!.norms[i]!).toBeCloseTo(1, 6));
    });

    test("stays as it is, in all of them, where a gradient in one is not finite", async () => {
      const { trainable, step } = await start({ clipNorm: 1, emaDecay: 0.9 }, inPieces);
      await step(tensors("good"));
      const before = await trainable.state();
      const bad = { ...tensors("also good"), p6: HostTensor.filled([2, 103], NaN) };
      expect(await step(tensors("good too"), bad)).toEqual({ gradientNorm: NaN, finite: false });
      expect(await trainable.state()).toEqual(before);
      expect((await step(tensors("good again"))).finite).toBe(true);
      trainable.dispose();
    });

    test("refuses a gradient of whole numbers", async () => {
      const { memory, trainable } = await start({});
      const whole = new HostTensor([2, 1], Int32Array.of(1, 2));
      const gradients = mapTensors({ ...tensors("a"), p0: whole }, (tensor) => memory.upload(tensor));
      expect(() => trainable.accumulate(gradients)).toThrow(expect.objectContaining({ code: "DTYPE_MISMATCH" }));
      trainable.dispose();
    });
  });

  test("training by a hinge loss stops at a NaN", async () => {
    const device = await requestGpuDevice(gpu);
    const task = await gradientTask({
      name: "hinge",
      backend: webgpuBackend({ device }),
      steps: 2,
      program: (ops, { w }, { x }) => ({
        loss: ops.mean(discriminatorLoss(ops, "hinge", ops.mul(x, w!), ops.mul(x, -1))),
      }),
      params: { w: HostTensor.from([2], [0.5, 1]) },
      inputs: { x: { shape: [3, 2] } },
      optimizer: {},
      learningRate: () => learningRate,
      batch: (step) => ({ x: HostTensor.from([3, 2], [1, 2, step === 1 ? NaN : 3, 4, 5, 6]) }),
    });
    expect((await task.step(0)).loss).toBeCloseTo((0.5 + 0 + 0 + 0 + 0 + 0) / 6, 6);
    const before = await task.weights();
    await expect(task.step(1)).rejects.toMatchObject({ code: "NON_FINITE", tensors: ["loss", "input.x"] });
    expect(await task.weights()).toEqual(before);
    await task.dispose();
    device.destroy();
  });
}
