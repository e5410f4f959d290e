import { afterAll, describe, expect, it } from "vitest";
import * as ort from "onnxruntime-node";
import { controlNet, controlNetFromUNet, controlNetParameters } from "@sdxs/controlnet";
import { combineHost, planFromConfig, sample } from "@sdxs/diffusion";
import {
  HostTensor,
  downloadAll,
  mapTensors,
  random,
  scope,
  specsOf,
  type HostParams,
  type ParameterSpec,
  type Program,
} from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { parseUNetConfig, unet, unetParameters } from "@sdxs/tiny-unet";
import { autoencoderTinyParameters, decodeTiny, parseAutoencoderTinyConfig } from "@sdxs/tiny-vae";
import { createPipeline, type TextToImageComponents } from "./pipeline.js";
import { parseTextEncoderConfig, textEncoder, textEncoderParameters } from "./text-encoder.js";
import { loadTokenizer } from "./tokenizer.js";

const backend = onnxBackend({ ort, threads: 1 });

const words = ["r", "e", "d", "d</w>", "re", "red</w>", "<|startoftext|>", "<|endoftext|>"];
const tokenizer = loadTokenizer({
  vocab: Object.fromEntries(words.map((word, id) => [word, id])),
  merges: "r e\nre d</w>",
  tokenizerConfig: { model_max_length: 6 },
});
const textConfig = parseTextEncoderConfig({
  vocab_size: tokenizer.vocabularySize,
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  max_position_embeddings: 6,
  eos_token_id: tokenizer.endId,
});
const unetConfig = parseUNetConfig({
  sample_size: [4, 6],
  block_out_channels: [8, 8],
  layers_per_block: 1,
  norm_num_groups: 4,
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D"],
  up_block_types: ["CrossAttnUpBlock2D", "UpBlock2D"],
  mid_block_type: null,
  cross_attention_dim: 8,
  attention_head_dim: 1,
});
const vaeConfig = parseAutoencoderTinyConfig({
  encoder_block_out_channels: [4, 4],
  decoder_block_out_channels: [4, 4],
  num_encoder_blocks: [1, 1],
  num_decoder_blocks: [1, 1],
});
const controlConfig = controlNetFromUNet(unetConfig, { conditioning_embedding_out_channels: [4, 4] }).config;
/** Not zero even where a new model begins with zeros. */
const weights = (specs: Readonly<Record<string, ParameterSpec>>, seed: number): HostParams =>
  mapTensors(specs, ({ shape }, name) =>
    HostTensor.from(
      shape,
      random(seed, name)
        .normal(shape)
        .data.map((value) => 0.2 * value),
    ),
  );
const components: TextToImageComponents = {
  tokenizer,
  text_encoder: {
    className: "CLIPTextModel",
    config: textConfig,
    params: weights(textEncoderParameters(textConfig), 1),
  },
  unet: { className: "UNet2DConditionModel", config: unetConfig, params: weights(unetParameters(unetConfig), 2) },
  vae: { className: "AutoencoderTiny", config: vaeConfig, params: weights(autoencoderTinyParameters(vaeConfig), 3) },
  scheduler: {
    _class_name: "DEISMultistepScheduler",
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: "scaled_linear",
    prediction_type: "v_prediction",
  },
};
const controlled: TextToImageComponents = {
  ...components,
  controlnet: [
    { className: "ControlNetModel", config: controlConfig, params: weights(controlNetParameters(controlConfig), 4) },
  ],
};
const noise = random(9).normal([2, 4, 4, 6]);
const prompts = ["red", "red red"];

async function run<In extends string, Out extends string>(
  program: Program<In, Out>,
  frozen: HostParams,
  inputs: Readonly<Record<In, HostTensor>>,
): Promise<HostTensor> {
  const compiled = await backend.compile(program, { frozen, inputs: specsOf(inputs) });
  const [host] = Object.values(await downloadAll(backend, await compiled.run({}, inputs)));
  await compiled.dispose();
  return host as HostTensor;
}

const embed = (texts: readonly string[]): Promise<HostTensor> =>
  run(
    (ops, params, { ids }) => ({ context: textEncoder(ops, scope(ops, params), textConfig, ids).lastHiddenState }),
    components.text_encoder.params,
    { ids: tokenizer.encodeBatch(texts) },
  );

/** One network evaluation after the other, with the arithmetic between them on the host. */
async function expectedImages(given: {
  readonly scheduler?: TextToImageComponents["scheduler"];
  readonly steps?: number;
  readonly scale?: number;
  readonly condition?: HostTensor;
}): Promise<HostTensor> {
  const { scheduler = components.scheduler, steps = 1, scale = 1, condition } = given;
  const contexts = { with: await embed(prompts), without: await embed(["", ""]) };
  const predict = (x: HostTensor, timestep: number, context: HostTensor) =>
    run(
      (ops, params, { condition: image, ...inputs }) => {
        const p = scope(ops, params);
        const control = condition && {
          controlResiduals: controlNet(ops, p.at("control"), controlConfig, { ...inputs, condition: image }),
        };
        return { output: unet(ops, p.at("unet"), unetConfig, { ...inputs, ...control }).sample };
      },
      {
        ...Object.fromEntries(Object.entries(components.unet.params).map(([name, t]) => [`unet.${name}`, t])),
        ...Object.fromEntries(
          Object.entries(controlled.controlnet?.[0]?.params ?? {}).map(([name, t]) => [`control.${name}`, t]),
        ),
      },
      {
        sample: x,
        timestep: HostTensor.filled([1], timestep),
        encoderHiddenStates: context,
        condition: condition ?? HostTensor.filled([1, 3, 8, 12], 0),
      },
    );
  const latents = await sample({
    plan: planFromConfig(scheduler, steps),
    noise,
    predict: async (x, timestep) =>
      combineHost([
        [scale, await predict(x, timestep, contexts.with)],
        [1 - scale, await predict(x, timestep, contexts.without)],
      ]),
  });
  return run(
    (ops, params, { latents: z }) => ({
      images: ops.maximum(-1, ops.minimum(1, decodeTiny(ops, scope(ops, params), vaeConfig, z))),
    }),
    components.vae.params,
    { latents },
  );
}

function expectClose(actual: HostTensor, expected: HostTensor): void {
  expect(actual.shape).toEqual(expected.shape);
  const differences = Array.from(expected.data, (value, i) => Math.abs(value - actual.data[i]!));
  expect(Math.max(...differences)).toBeLessThan(1e-4);
}

describe("createPipeline draws what its networks give one after the other", () => {
  const pipeline = createPipeline({ components, backend });
  afterAll(() => pipeline.dispose());

  it("in one step", async () => {
    const { images, times, warnings } = await pipeline.generate(prompts, { noise });
    expect(images.shape).toEqual([2, 3, 8, 12]);
    expectClose(images, await expectedImages({}));
    expect(Object.keys(times)).toEqual(["textEncoder", "unet", "decoder"]);
    expect(warnings).toEqual([]);
  });

  it.each(["DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "DEISMultistepScheduler"])(
    "in four steps of the %s with guidance",
    async (_class_name) => {
      const scheduler = { ...components.scheduler, _class_name, clip_sample: false, solver_order: 2 };
      const multiStep = createPipeline({
        components: { ...components, scheduler },
        backend,
        steps: 4,
        guidanceScale: 3,
      });
      const seen: number[] = [];
      const { images } = await multiStep.generate(prompts, { noise, onStep: (step) => seen.push(step) });
      expectClose(images, await expectedImages({ scheduler, steps: 4, scale: 3 }));
      expect(seen).toEqual([1, 2, 3, 4]);
      await multiStep.dispose();
    },
  );

  it("under a ControlNet, with and without guidance", async () => {
    const guidedByImage = createPipeline({ components: controlled, backend });
    const condition = random(5).uniform([2, 3, 8, 12]);
    for (const scale of [1, 2]) {
      const { images } = await guidedByImage.generate(prompts, {
        noise,
        guidanceScale: scale,
        controls: [{ image: condition }],
      });
      expectClose(images, await expectedImages({ scale, condition }));
    }
    const { images: free } = await guidedByImage.generate(prompts, { noise });
    expectClose(free, await expectedImages({}));
    const off = await guidedByImage.generate(prompts, { noise, controls: [{ image: condition, scale: 0 }] });
    expectClose(off.images, free);
    await guidedByImage.dispose();
  });

  it("from noise of the seed and the image's place alone", async () => {
    const two = await pipeline.generate(["red", "red"], { seed: "s" });
    const one = await pipeline.generate("red", { seed: "s" });
    const size = one.images.data.length;
    expectClose(one.images, HostTensor.from(one.images.shape, two.images.data.subarray(0, size)));
    expect(two.images.data.subarray(size)).not.toEqual(two.images.data.subarray(0, size));
    expect((await pipeline.generate("red", { seed: "t" })).images.data).not.toEqual(one.images.data);
    expect((await pipeline.generate("red", { seed: "s" })).images.data).toEqual(one.images.data);
  });

  it("of other sizes", async () => {
    const { images } = await pipeline.generate("red", { width: 16, height: 8 });
    expect(images.shape).toEqual([1, 3, 8, 16]);
  });

  it("for a stream of requests", async () => {
    const pictures = pipeline.stream();
    pictures.request("dropped");
    pictures.request("red", { seed: "s" });
    pictures.close();
    const drawn = [];
    for await (const picture of pictures) drawn.push(picture);
    expect(drawn).toHaveLength(1);
    expect(drawn[0]!.images.data).toEqual((await pipeline.generate("red", { seed: "s" })).images.data);
  });

  it("and says where a prompt was cut", async () => {
    const { warnings } = await pipeline.generate("red red red red red");
    expect(warnings).toEqual([expect.stringContaining("more than 6 tokens")]);
  });
});

describe("createPipeline's device memory", () => {
  it("returns to its level after each picture, failed ones too, and to nothing in the end", async () => {
    const before = backend.memory().tensors;
    const pipeline = createPipeline({ components, backend });
    await pipeline.generate("red");
    const level = backend.memory().tensors;
    for (let image = 0; image < 50; image++) await pipeline.generate("red", { seed: image, steps: 2 });
    await expect(pipeline.generate("red", { steps: 3, signal: abortedAfter(2) })).rejects.toMatchObject({
      code: "ABORTED",
    });
    expect(backend.memory().tensors).toBe(level);
    for (let i = 0; i < 40; i++)
      await pipeline.generate("red", { guidanceScale: 2, negativePrompt: `red ${"e".repeat(i)}` });
    expect(backend.memory().tensors).toBeLessThanOrEqual(before + 16);
    await pipeline.dispose();
    expect(backend.memory().tensors).toBe(before);
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

describe("createPipeline tells what is wrong", () => {
  const pipeline = createPipeline({ components: controlled, backend });
  afterAll(() => pipeline.dispose());

  it.each([
    [[], {}, "INVALID_ARGUMENT", /at least one prompt/],
    ["red", { steps: 0 }, "INVALID_ARGUMENT", /steps must be .* got 0/],
    ["red", { guidanceScale: NaN }, "INVALID_ARGUMENT", /guidanceScale/],
    ["red", { width: 15 }, "INVALID_ARGUMENT", /width must be a multiple of 2 pixels, got 15\. The nearest is 16/],
    ["red", { noise }, "SHAPE_MISMATCH", /noise must be \[1, 4, 4, 6\], got \[2, 4, 4, 6\]/],
    ["red", { controls: [] as never[], noise: noise }, "SHAPE_MISMATCH", /noise/],
    ["red", { controls: [{ image: HostTensor.filled([1, 3, 4, 4], 0) }] }, "SHAPE_MISMATCH", /controls\[0\].image/],
  ] as const)("of %j with %j", async (given, options, code, message) => {
    await expect(pipeline.generate(given, options)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    });
  });

  it.each([
    ["text_encoder", "text encoder"],
    ["unet", "U-Net"],
    ["vae", "decoder"],
  ] as const)("where the %s gives a NaN", async (component, stage) => {
    const model = components[component];
    const [name] = Object.keys(model.params)
      .filter((key) => key.endsWith("bias"))
      .slice(-1);
    const broken = { ...model.params, [name!]: HostTensor.filled(model.params[name!]!.shape, NaN) };
    const sick = createPipeline({ components: { ...components, [component]: { ...model, params: broken } }, backend });
    await expect(sick.generate("red")).rejects.toMatchObject({
      code: "NON_FINITE",
      message: expect.stringContaining(`the ${stage} gave`) as string,
    });
    await sick.dispose();
  });

  it("where a picture is all black", async () => {
    const last = Object.keys(components.vae.params)
      .filter((name) => name.startsWith("decoder") && name.endsWith("bias"))
      .at(-1)!;
    const params = { ...components.vae.params, [last]: HostTensor.filled([3], -100) };
    const dark = createPipeline({
      components: { ...components, vae: { ...components.vae, params } },
      backend,
    });
    expect((await dark.generate("red")).warnings).toEqual([expect.stringContaining("Image 0 is all black")]);
    await dark.dispose();
  });

  it("for a U-Net that needs more than a prompt", () => {
    const xl = {
      ...components,
      unet: { ...components.unet, config: { ...unetConfig, addition_embed_type: "text_time" } },
    };
    expect(() => createPipeline({ components: xl as TextToImageComponents, backend })).toThrow(/addition_embed_type/);
  });
});
