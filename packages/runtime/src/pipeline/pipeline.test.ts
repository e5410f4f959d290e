import { afterAll, describe, expect, it } from "vitest";
import * as ort from "onnxruntime-node";
import { controlNet } from "@sdxs/controlnet";
import { combineHost, planFromConfig, sample } from "@sdxs/diffusion";
import {
  HostTensor,
  downloadAll,
  mapTensors,
  random,
  scope,
  specsOf,
  type Backend,
  type HostParams,
  type Program,
} from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { unet } from "@sdxs/tiny-unet";
import {
  autoencoderKlParameters,
  decodeKl,
  decodeTiny,
  encodeKl,
  encodeTiny,
  fromDiffusionLatents,
  parseAutoencoderKlConfig,
  samplePosterior,
  toDiffusionLatents,
} from "@sdxs/tiny-vae";
import {
  components,
  controlConfig,
  controlled,
  expectClose,
  noise,
  prompts,
  textConfig,
  tokenizer,
  unetConfig,
  vaeConfig,
  weights,
} from "./pipeline-case.test-support.js";
import type { PipelineWarning } from "../checkpoints/pipeline-warnings.js";
import { createPipeline } from "./pipeline.js";
import type { TextToImageComponents } from "../checkpoints/components.js";
import { textEncoder } from "../clip/text-encoder.js";

const backend = onnxBackend({ ort, threads: 1 });

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
  /** Latents of the image to begin with. */
  readonly clean?: HostTensor;
  readonly strength?: number;
}): Promise<HostTensor> {
  const { steps = 1, scale = 1, condition, clean, strength = 1 } = given;
  // As diffusers' StableDiffusionPipeline takes it.
  const scheduler = { ...(given.scheduler ?? components.scheduler), steps_offset: 1, clip_sample: false };
  const plan = planFromConfig(scheduler, steps, { strength });
  const { alpha, sigma } = plan.steps[0]!.level;
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
    plan: clean ? plan : planFromConfig(scheduler, steps),
    noise: clean
      ? combineHost([
          [alpha, clean],
          [sigma, noise],
        ])
      : noise,
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

  it.each([
    ["DDIMScheduler", 4],
    ["DPMSolverMultistepScheduler", 4],
    ["EulerDiscreteScheduler", 4],
    ["DEISMultistepScheduler", 4],
    ["UniPCMultistepScheduler", 4],
    ["LMSDiscreteScheduler", 4],
    ["PNDMScheduler", 12 + 1],
    ["HeunDiscreteScheduler", 4 + 3],
  ])("in four steps of the %s with guidance, by %i calls of the U-Net", async (_class_name, calls) => {
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
    expect(seen).toEqual(Array.from({ length: calls }, (_, index) => index + 1));
    await multiStep.dispose();
  });

  it("by another sampler for one request, with the pipeline's schedule", async () => {
    const { images } = await pipeline.generate(prompts, { noise, steps: 2, scheduler: "unipc" });
    const scheduler = { ...components.scheduler, _class_name: "UniPCMultistepScheduler" };
    expectClose(images, await expectedImages({ scheduler, steps: 2 }));
    await expect(pipeline.generate(prompts, { scheduler: "k-lms" })).rejects.toMatchObject({
      code: "UNSUPPORTED_CONFIG",
    });
  });

  it("with a warning where one step begins at timestep 1, or a field has no effect", async () => {
    const scheduler = { ...components.scheduler, _class_name: "PNDMScheduler", skip_prk_steps: true, use_karas: true };
    const warnings: PipelineWarning[] = [];
    const onWarning = (warning: PipelineWarning) => warnings.push(warning);
    const other = createPipeline({ components: { ...components, scheduler }, backend, onWarning });
    await other.generate(prompts, { noise, steps: 1 });
    expect(warnings.map(({ code }) => code)).toEqual(["SCHEDULER_FIELD", "STARTS_CLEAN"]);
    expect(warnings[1]?.message).toMatch(/at timestep 1, .*"timestep_spacing": "trailing"/);
    await other.generate(prompts, { noise, steps: 4 });
    expect(warnings.map(({ code }) => code).slice(2)).toEqual(["SCHEDULER_FIELD"]);
    await other.dispose();
  });

  it("in float16, to its precision, with guidance", async () => {
    const half = createPipeline({ components, backend, precision: "float16", guidanceScale: 3 });
    const { images } = await half.generate(prompts, { noise });
    const expected = await expectedImages({ scale: 3 });
    const differences = Array.from(expected.data, (value, i) => Math.abs(value - images.data[i]!));
    expect(Math.max(...differences)).toBeLessThan(0.02);
    expect(Math.max(...differences)).toBeGreaterThan(1e-5);
    await half.dispose();
  });

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

  it("from a list of seeds, each image as its seed draws it alone", async () => {
    const { images } = await pipeline.generate(["red", "red"], { seed: ["s", 7] });
    const size = images.data.length / 2;
    for (const [index, seed] of ["s", 7].entries()) {
      const alone = await pipeline.generate("red", { seed });
      expectClose(alone.images, HostTensor.from([1, 3, 8, 12], images.data.subarray(index * size, (index + 1) * size)));
    }
    await expect(pipeline.generate("red", { seed: [1, 2] })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: "generate: a list of seeds must have one for each prompt, 1 here, got 2.",
    });
  });

  // diffusers' do_classifier_free_guidance is guidance_scale > 1.
  it.each([0.5, 0, -1])("without guidance at a scale of %f, as at 1", async (guidanceScale) => {
    const { images } = await pipeline.generate(prompts, { noise, guidanceScale });
    expectClose(images, await expectedImages({}));
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

  it("and refuses a token beyond the text encoder's table by its name, once a prompt has it", async () => {
    const tokenizer = components.tokenizer.withTokens(["sks"]);
    const extended = createPipeline({ components: { ...components, tokenizer }, backend });
    await expect(extended.generate("red sks")).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
      message: expect.stringContaining('the token "sks" has the id 8, but the text encoder\'s table ends at 7'),
    });
    expect((await extended.generate("red")).warnings).toEqual([]);
    await extended.dispose();
  });

  it("and says which words of a prompt were cut, by the result and by onWarning", async () => {
    const heard: PipelineWarning[] = [];
    const warned = createPipeline({ components, backend, onWarning: (warning) => heard.push(warning) });
    const { warnings } = await warned.generate("red red red red red");
    await warned.dispose();
    const message = 'The prompt "red red red red red" has more than 6 tokens; its last words were cut: "red".';
    expect(warnings).toEqual([message]);
    expect(heard).toEqual([{ code: "PROMPT_CUT", message }]);
  });
});

describe("createPipeline draws from an image", () => {
  it("unless the autoencoder has no encoder, or one that holds zeros", async () => {
    const decoder = Object.entries(components.vae.params).filter(([name]) => name.startsWith("decoder."));
    const zeros = mapTensors(components.vae.params, ({ shape }) => HostTensor.filled(shape, 0));
    for (const [what, params] of [
      ["is absent", Object.fromEntries(decoder)],
      ["holds zeros alone", { ...zeros, ...Object.fromEntries(decoder) }],
    ] as const) {
      const vae = { ...components.vae, params } as TextToImageComponents["vae"];
      const without = createPipeline({ components: { ...components, vae }, backend });
      await expect(without.generate("red", { image })).rejects.toMatchObject({
        code: "UNSUPPORTED_OPERATION",
        message: expect.stringContaining(`image needs the autoencoder's encoder, and this vae's ${what}`),
      });
      const { images } = await without.generate(prompts, { noise });
      expectClose(images, await expectedImages({}));
      await without.dispose();
    }
  });

  const image = random(6).uniform([1, 3, 8, 12]);
  const twice = (z: HostTensor): HostTensor => HostTensor.from([2, ...z.shape.slice(1)], [...z.data, ...z.data]);

  it.each([
    ["DDIMScheduler", 4, 0.5],
    ["DPMSolverMultistepScheduler", 4, 0.8],
    ["EulerDiscreteScheduler", 5, 0.6],
    ["DEISMultistepScheduler", 1, 1],
  ] as const)("by the last of the %s's %i steps, at strength %f", async (_class_name, steps, strength) => {
    const scheduler = { ...components.scheduler, _class_name, clip_sample: false };
    const latents = await run(
      (ops, params, { images }) => ({ z: encodeTiny(ops, scope(ops, params), vaeConfig, images) }),
      components.vae.params,
      { images: image },
    );
    const pipeline = createPipeline({ components: { ...components, scheduler }, backend });
    const seen: number[] = [];
    const { images, times } = await pipeline.generate(prompts, {
      noise,
      image,
      steps,
      strength,
      guidanceScale: 1,
      onStep: (step) => seen.push(step),
    });
    expectClose(images, await expectedImages({ scheduler, steps, strength, clean: twice(latents) }));
    expect(seen).toHaveLength(Math.floor(steps * strength));
    expect(times).toHaveProperty("imageEncoder");
    await pipeline.dispose();
  });

  it("by AutoencoderKL's distribution, with noise of the seed", async () => {
    const config = parseAutoencoderKlConfig({
      block_out_channels: [4, 4],
      down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D"],
      up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D"],
      norm_num_groups: 2,
    });
    const params = weights(autoencoderKlParameters(config), 7);
    const pipeline = createPipeline({
      components: { ...components, vae: { className: "AutoencoderKL", config, params } },
      backend,
    });
    const { images } = await pipeline.generate("red", { image, noise: first(noise), seed: 3, strength: 0.5 });
    const plan = planFromConfig(components.scheduler, 2, { strength: 0.5 });
    const [context] = [await embed(["red"])];
    const { alpha, sigma } = plan.steps[0]!.level;
    const moments = { images: image, posterior: random(3, "generate", "posterior", 0).normal([4, 4, 6]) };
    const clean = await run(
      (ops, p, { images: x, posterior }) => ({
        z: toDiffusionLatents(ops, config, samplePosterior(ops, encodeKl(ops, scope(ops, p), config, x), posterior)),
      }),
      params,
      moments,
    );
    const latents = await sample({
      plan,
      noise: combineHost([
        [alpha, clean],
        [sigma, first(noise)],
      ]),
      predict: (x, timestep) =>
        run(
          (ops, p, inputs) => ({ output: unet(ops, scope(ops, p), unetConfig, inputs).sample }),
          components.unet.params,
          { sample: x, timestep: HostTensor.filled([1], timestep), encoderHiddenStates: context },
        ),
    });
    const expected = await run(
      (ops, p, { z }) => ({
        images: ops.maximum(
          -1,
          ops.minimum(1, decodeKl(ops, scope(ops, p), config, fromDiffusionLatents(ops, config, z))),
        ),
      }),
      params,
      { z: latents },
    );
    expectClose(images, expected);
    await pipeline.dispose();
  });

  const first = ({ shape, data }: HostTensor): HostTensor =>
    HostTensor.from([1, ...shape.slice(1)], data.subarray(0, data.length / shape[0]!));

  it("with as many steps as one needs, and of the image's size", async () => {
    const pipeline = createPipeline({ components, backend });
    const seen: [number, number][] = [];
    const { images } = await pipeline.generate("red", {
      image: random(6).uniform([1, 3, 16, 8]),
      strength: 0.3,
      onStep: (...step) => seen.push(step),
    });
    expect(images.shape).toEqual([1, 3, 16, 8]);
    expect(seen).toEqual([[1, 1]]);
    await pipeline.dispose();
  });
});

describe("createPipeline on a backend that never waits for anything outside", () => {
  it("lets a timer abort it", async () => {
    const result = HostTensor.filled([1, 4, 4, 6], 0);
    const run = async () => {
      for (const end = performance.now() + 5; performance.now() < end;);
      return { context: result, sample: result, prediction: result, images: result };
    };
    const busy = {
      download: async () => result,
      dispose: () => undefined,
      compile: async () => ({ run, upload: () => ({}), dispose: async () => undefined }),
    } as unknown as Backend<HostTensor>;
    const pipeline = createPipeline({ components, backend: busy });
    const abort = new AbortController();
    setTimeout(() => abort.abort());
    const drawing = pipeline.generate("red", { steps: 100, signal: abort.signal });
    await expect(drawing).rejects.toMatchObject({ code: "ABORTED" });
    await pipeline.dispose();
  });
});

describe("createPipeline tells what is wrong", () => {
  const pipeline = createPipeline({ components: controlled, backend });
  afterAll(() => pipeline.dispose());

  it.each([
    [[], {}, "INVALID_ARGUMENT", /at least one prompt/],
    [{ prompt: "red" } as never, {}, "INVALID_ARGUMENT", /expected a prompt or a list of prompts, got an object/],
    [["red", 7] as never, {}, "INVALID_ARGUMENT", /got a list with a number/],
    [undefined as never, {}, "INVALID_ARGUMENT", /got nothing/],
    ["red", { steps: 0 }, "INVALID_ARGUMENT", /steps must be .* got 0/],
    ["red", { guidanceScale: NaN }, "INVALID_ARGUMENT", /guidanceScale/],
    ["red", { width: 15 }, "INVALID_ARGUMENT", /width must be a multiple of 2 pixels, got 15\. The nearest is 16/],
    ["red", { noise }, "SHAPE_MISMATCH", /noise must be \[1, 4, 4, 6\], got \[2, 4, 4, 6\]/],
    ["red", { controls: [] as never[], noise: noise }, "SHAPE_MISMATCH", /noise/],
    ["red", { strength: 0 }, "INVALID_ARGUMENT", /strength must be above 0/],
    ["red", { image: noise, steps: 2, strength: 0.4 }, "INVALID_ARGUMENT", /leaves none\. Give at least 3 steps/],
    [
      "red",
      { image: HostTensor.filled([2, 3, 8, 12], 0) },
      "SHAPE_MISMATCH",
      /image must be \[1 or 1, 3, height, width\], got \[2, 3, 8, 12\]\.$/,
    ],
    [
      "red",
      { image: HostTensor.filled([1, 8, 12, 3], 0) },
      "SHAPE_MISMATCH",
      /got \[1, 8, 12, 3\]\. Put the channels before height and width\./,
    ],
    ["red", { controls: [{ image: HostTensor.filled([1, 1, 8, 12], 0) }] }, "SHAPE_MISMATCH", /controls\[0\].image/],
  ] as const)("of %j with %j", async (given, options, code, message) => {
    await expect(pipeline.generate(given, options)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    });
  });

  it("of float16 and int8 at once", () => {
    expect(() =>
      createPipeline({ components, backend, int8: { unet: {}, decoder: {} }, precision: "float16" }),
    ).toThrow("createPipeline: int8 and float16 exclude each other.");
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
});
