import * as ort from "onnxruntime-node";
import { afterEach, describe, expect, it } from "vitest";
import { HostTensor, random, type Backend } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { countingBackend } from "./counting-backend.test-support.js";
import { components, randomLora } from "./pipeline-case.test-support.js";
import { createPipeline } from "./pipeline.js";
import type { Pipeline } from "./pipeline-types.js";
import { servePipeline, workerPipeline, type WorkerPort } from "./worker-pipeline.js";

const onnx: Backend<unknown> = onnxBackend({ ort, threads: 1 });

/** A channel stands for the worker: messages are cloned as between threads. */
const open: MessageChannel[] = [];
function connect(
  serve: Parameters<typeof servePipeline>[0],
  onProgress?: Parameters<typeof workerPipeline>[1],
): Pipeline {
  const channel = new MessageChannel();
  open.push(channel);
  servePipeline(serve, channel.port1);
  const pipeline = workerPipeline(channel.port2, onProgress);
  channel.port1.start();
  channel.port2.start();
  return pipeline;
}
afterEach(() => open.splice(0).forEach(({ port1 }) => port1.close()));

describe("workerPipeline", () => {
  it("draws what the pipeline in the worker draws, with all options", async () => {
    const { backend, counted } = countingBackend(onnx);
    const progress: unknown[] = [];
    const far = connect(
      async (report) => {
        report({ file: "https://a/b", loaded: 1, total: 2 });
        return createPipeline({ components, backend });
      },
      (now) => progress.push(now),
    );
    const near = createPipeline({ components, backend: onnx });
    const lora = randomLora(components.unet.params, ["to_q", "to_k"], 1);
    const loras = [{ unet: lora, weight: 0.5 }];
    const image = random(1).uniform([1, 3, 8, 12]);
    for (const options of [{}, { seed: 3, steps: 2 }, { loras }, { loras, image }]) {
      const steps: number[] = [];
      const { images, warnings } = await far.generate("red", { ...options, onStep: (step) => steps.push(step) });
      expect(images).toBeInstanceOf(HostTensor);
      expect(images).toEqual((await near.generate("red", options)).images);
      expect(warnings).toEqual([]);
      expect(steps.length).toBe(options.steps ?? 1);
    }
    expect(progress).toEqual([{ file: "https://a/b", loaded: 1, total: 2 }]);
    expect(counted().uploads).toBe(Object.keys(lora.alphas).length); // the LoRA was known the second time

    const pictures = far.stream();
    pictures.request("dropped");
    pictures.request("red");
    pictures.close();
    for await (const picture of pictures) expect(picture.images).toEqual((await near.generate("red")).images);
    await far.dispose();
    await expect(far.generate("red")).rejects.toMatchObject({ code: "DISPOSED" });
    await near.dispose();
  });

  it("hands on errors with their codes, those of opening too", async () => {
    const far = connect(() => Promise.resolve(createPipeline({ components, backend: onnx })));
    await expect(far.generate("red", { steps: 0 })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("steps must be"),
    });
    const closed = connect(() => Promise.reject(new Error("no network")));
    await expect(closed.generate("red")).rejects.toThrow("no network");
    await expect(closed.dispose()).rejects.toThrow("no network");
  });

  it("aborts what the worker draws", async () => {
    const far = connect(() => Promise.resolve(createPipeline({ components, backend: onnx })));
    const controller = new AbortController();
    const drawing = far.generate("red", {
      steps: 900,
      signal: controller.signal,
      onStep: (step) => {
        if (step === 2) controller.abort();
      },
    });
    await expect(drawing).rejects.toMatchObject({ code: "ABORTED" });
    await expect(far.generate("red", { signal: controller.signal })).rejects.toMatchObject({ code: "ABORTED" });
    await far.dispose();
  });

  it("rejects what waits where the worker fails", async () => {
    let fail = (_: unknown): void => undefined;
    const worker: WorkerPort = {
      postMessage: () => undefined,
      addEventListener: (type: string, listener: (event: never) => void) => {
        if (type === "error") fail = listener as typeof fail;
      },
    };
    const drawing = workerPipeline(worker).generate("red");
    fail({ message: "out of memory" });
    await expect(drawing).rejects.toMatchObject({
      code: "BACKEND_FAILURE",
      message: "The worker failed: out of memory",
    });
  });
});
