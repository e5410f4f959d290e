import * as tf from "@tensorflow/tfjs";
import * as ort from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { random, SdxsError, type Backend } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { tfjsBackend } from "@sdxs/tensor/tfjs";
import { components, randomLora } from "./pipeline-case.test-support.js";
import { createPipeline } from "./pipeline.js";

const onnx: Backend<unknown> = onnxBackend({ ort, threads: 1 });
const ofUnet = { unet: randomLora(components.unet.params, ["to_q"], 1) };
const ofText = { text_encoder: randomLora(components.text_encoder.params, ["q_proj"], 2) };
const image = random(6).uniform([1, 3, 8, 12]);

describe("The device memory of a pipeline", () => {
  it("returns to its level after each picture, failed ones too, and to nothing in the end", async () => {
    const backend = await tfjsBackend({ tf, backend: "cpu" });
    const tensors = (): number => backend.memory().tensors;
    const before = tensors();
    const pipeline = createPipeline({ components, backend });
    for (const loras of [[ofUnet, ofText], []]) await pipeline.generate("red", { image, loras });
    const level = tensors();
    for (let seed = 0; seed < 3; seed++) await pipeline.generate("red", { seed, steps: 2 });
    await pipeline.generate("red", { seed: 3, steps: 2, image });
    await expect(pipeline.generate("red", { steps: 3, image, signal: abortedAfter(3) })).rejects.toMatchObject({
      code: "ABORTED",
    });
    expect(tensors()).toBe(level);
    const guide = (negativePrompt: string) => pipeline.generate("red", { guidanceScale: 2, negativePrompt });
    await guide("");
    const guided = tensors(); // two of 16 embeddings
    for (let i = 1; i <= 20; i++) await guide("e".repeat(i));
    expect(tensors()).toBe(guided + 14);
    await pipeline.dispose();
    expect(tensors()).toBe(before);
    await expect(pipeline.generate("red")).rejects.toMatchObject({ code: "DISPOSED" });
  });

  /** A signal that is asked `questions` times before it is aborted. */
  function abortedAfter(questions: number): AbortSignal {
    const { signal } = new AbortController();
    let asked = 0;
    Object.defineProperty(signal, "aborted", { get: () => asked++ >= questions });
    return signal;
  }
});

it("A pipeline compiles each stage once for each shape, and encodes a prompt once", async () => {
  const compiled: string[] = [];
  let encodings = 0;
  const backend: Backend<unknown> = {
    ...onnx,
    async compile(program, spec) {
      const [stage = ""] = ["ids", "images", "sample", "latents"].filter((input) => input in spec.inputs);
      compiled.push(stage);
      const ready = await onnx.compile(program, spec);
      return {
        ...ready,
        run: (...given) => {
          if (stage === "ids") encodings++;
          return ready.run(...given);
        },
      };
    },
  };
  const pipeline = createPipeline({ components, backend });
  const news = async (draw: () => Promise<unknown>): Promise<string> => {
    const before = { compiled: compiled.length, encodings };
    await draw();
    return [...compiled.slice(before.compiled), ...Array<string>(encodings - before.encodings).fill("encoding")].join();
  };
  const generate = (prompt: string, options = {}) => news(() => pipeline.generate(prompt, options));
  expect(await generate("red")).toBe("ids,sample,latents,encoding");
  expect(await generate("red", { seed: 1, steps: 3 })).toBe("");
  expect(await generate("red red")).toBe("encoding");
  expect(await generate("red", { image, strength: 0.5 })).toBe("images");
  expect(await generate("red", { image, strength: 0.3 })).toBe("");
  expect(await generate("red", { loras: [ofUnet] })).toBe("sample");
  expect(await generate("red", { loras: [{ ...ofUnet, weight: 0.5 }] })).toBe("");
  expect(await generate("red", { loras: [ofText] })).toBe("ids,encoding");
  expect(await generate("red", { loras: [ofText, ofUnet] })).toBe("");
  expect(await generate("red")).toBe("encoding");
  const streamed = await news(async () => {
    const pictures = pipeline.stream();
    pictures.request("red", { seed: 2 });
    pictures.close();
    await pictures.next();
  });
  expect(streamed).toBe("");
  expect(await generate("red", { guidanceScale: 2 })).toBe("ids,sample,encoding");
  await pipeline.dispose();
});

describe("A pipeline whose GPU is lost", () => {
  /** A backend of its own whose runs fail from the given one on, as do its programs when they are disposed of. */
  function losing(runs: number) {
    const live = new Set<object>();
    let left = runs;
    const isLost = (): boolean => left < 0;
    const backend: Backend<unknown> = {
      ...onnx,
      async compile(program, spec) {
        const ready = await onnx.compile(program, spec);
        live.add(ready);
        return {
          ...ready,
          run: async (...given) => {
            left--;
            if (isLost()) throw new SdxsError("DEVICE_LOST", "The GPU device was lost.");
            return ready.run(...given);
          },
          dispose: async () => {
            live.delete(ready);
            await ready.dispose();
            if (isLost()) throw new Error("The device is lost.");
          },
        };
      },
    };
    return { backend, live };
  }

  it("goes on with another backend and repeats the request, LoRAs and all", async () => {
    const first = losing(7); // two pictures of three runs each, and one run of the third
    const backends = [first.backend, onnx];
    let opened = 0;
    const pipeline = createPipeline({ components, backend: () => Promise.resolve(backends[opened++]!) });
    const reference = createPipeline({ components, backend: onnx });
    for (const options of [{ loras: [ofUnet] }, {}, { loras: [ofUnet, ofText], image }, { loras: [ofUnet] }]) {
      const { images } = await pipeline.generate("red", options);
      expect(images.data).toEqual((await reference.generate("red", options)).images.data);
    }
    expect(opened).toBe(2);
    expect(first.live.size).toBe(0);
    await pipeline.dispose();
    await reference.dispose();
  });

  it("says so where it has one backend alone, or loses the next one too", async () => {
    const single = createPipeline({ components, backend: losing(0).backend });
    await expect(single.generate("red")).rejects.toMatchObject({ code: "DEVICE_LOST" });
    const unlucky = createPipeline({ components, backend: () => losing(1).backend });
    await expect(unlucky.generate("red")).rejects.toMatchObject({ code: "DEVICE_LOST" });
  });

  it("tries again at the next request where no backend could be made", async () => {
    let attempts = 0;
    const pipeline = createPipeline({
      components,
      backend: () => (attempts++ === 0 ? Promise.reject(new Error("no adapter")) : onnx),
    });
    await expect(pipeline.generate("red")).rejects.toThrow("no adapter");
    expect((await pipeline.generate("red")).images.shape).toEqual([1, 3, 8, 12]);
    await pipeline.dispose();
  });
});
