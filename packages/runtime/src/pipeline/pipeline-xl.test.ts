import * as ort from "onnxruntime-node";
import { afterAll, describe, expect, it } from "vitest";
import { combineHost, planFromConfig, sample } from "@sdxs/diffusion";
import { mergeLora } from "@sdxs/lora";
import { HostTensor, downloadAll, scope, specsOf, type HostParams, type Program } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { parseUNetConfig, unet, unetParameters } from "@sdxs/tiny-unet";
import { decodeTiny } from "@sdxs/tiny-vae";
import {
  components,
  expectClose,
  noise,
  prompts,
  randomLora,
  vaeConfig,
  weights,
} from "./pipeline-case.test-support.js";
import { createPipeline } from "./pipeline.js";
import type { PipelineOptions } from "./pipeline-types.js";
import type { TextToImageComponents } from "../checkpoints/components.js";
import { joinTextEncodings, parseTextEncoderConfig, textEncoder, textEncoderParameters } from "../clip/text-encoder.js";
import { loadTokenizer } from "../clip/tokenizer.js";

const backend = onnxBackend({ ort, threads: 1 });

const secondConfig = parseTextEncoderConfig({ ...components.text_encoder.config, projection_dim: 5 });
const config = parseUNetConfig({
  ...components.unet.config,
  cross_attention_dim: 16,
  addition_embed_type: "text_time",
  addition_time_embed_dim: 2,
  projection_class_embeddings_input_dim: 5 + 6 * 2,
});
/** It pads with another token than the first. */
const tokenizer = loadTokenizer({
  ...components.tokenizer.files,
  tokenizerConfig: { model_max_length: 6, pad_token: "r" },
});
const xl: TextToImageComponents = {
  ...components,
  tokenizer_2: tokenizer,
  text_encoder_2: {
    className: "CLIPTextModelWithProjection",
    config: secondConfig,
    params: weights(textEncoderParameters(secondConfig, { projection: true }), 8),
  },
  unet: { className: "UNet2DConditionModel", config, params: weights(unetParameters(config), 9) },
};

async function run<In extends string, Out extends string>(
  program: Program<In, Out>,
  frozen: HostParams,
  inputs: Readonly<Record<In, HostTensor>>,
): Promise<Record<Out, HostTensor>> {
  const compiled = await backend.compile(program, { frozen, inputs: specsOf(inputs) });
  const results = await downloadAll(backend, await compiled.run({}, inputs));
  await compiled.dispose();
  return results;
}

async function encode(
  texts: readonly string[],
  { text_encoder: first, text_encoder_2: second }: TextToImageComponents,
) {
  const under = (params: HostParams, name: string) =>
    Object.fromEntries(Object.entries(params).map(([key, value]) => [`${name}.${key}`, value]));
  return run(
    (ops, params, { ids, other }) => {
      const p = scope(ops, params);
      const one = textEncoder(ops, p.at("one"), first.config, ids);
      const two = textEncoder(ops, p.at("two"), secondConfig, other, { projection: true });
      return { ...joinTextEncodings(ops, one, two) };
    },
    { ...under(first.params, "one"), ...under(second!.params, "two") },
    { ids: components.tokenizer.encodeBatch(texts), other: tokenizer.encodeBatch(texts) },
  );
}

/** Two guided steps, one network evaluation after the other. */
async function expectedImages(negative: string | null, from = xl): Promise<HostTensor> {
  const scale = 3;
  const positive = await encode(prompts, from);
  const zeros = { encoderHiddenStates: HostTensor.filled([2, 6, 16], 0), textEmbeds: HostTensor.filled([2, 5], 0) };
  const away = negative === null ? zeros : await encode([negative, negative], from);
  const timeIds = HostTensor.from([2, 6], [8, 12, 0, 0, 8, 12, 8, 12, 0, 0, 8, 12]);
  const predict = async (x: HostTensor, timestep: number, texts: typeof positive) => {
    const { output } = await run(
      (ops, params, { textEmbeds, timeIds: sizes, ...inputs }) => ({
        output: unet(ops, scope(ops, params), config, { ...inputs, addedConditions: { textEmbeds, timeIds: sizes } })
          .sample,
      }),
      from.unet.params,
      { ...texts, sample: x, timestep: HostTensor.filled([1], timestep), timeIds },
    );
    return output;
  };
  const latents = await sample({
    plan: planFromConfig(components.scheduler, 2),
    noise,
    predict: async (x, timestep) =>
      combineHost([
        [scale, await predict(x, timestep, positive)],
        [1 - scale, await predict(x, timestep, away)],
      ]),
  });
  const { images } = await run(
    (ops, params, { z }) => ({
      images: ops.maximum(-1, ops.minimum(1, decodeTiny(ops, scope(ops, params), vaeConfig, z))),
    }),
    components.vae.params,
    { z: latents },
  );
  return images;
}

describe("createPipeline draws by Stable Diffusion XL's networks", () => {
  const options: PipelineOptions<unknown> = { components: xl, backend, steps: 2, guidanceScale: 3 };
  const pipeline = createPipeline(options);
  afterAll(() => pipeline.dispose());

  it("away from zeros, where there is no negative prompt", async () => {
    const { images } = await pipeline.generate(prompts, { noise });
    expectClose(images, await expectedImages(null));
  });

  it("away from a negative prompt, or from the empty one", async () => {
    const { images } = await pipeline.generate(prompts, { noise, negativePrompt: "red red red" });
    expectClose(images, await expectedImages("red red red"));
    const other = createPipeline({ ...options, forceZerosForEmptyPrompt: false });
    expectClose((await other.generate(prompts, { noise })).images, await expectedImages(""));
    await other.dispose();
  });

  it("with LoRAs on both text encoders", async () => {
    const second = xl.text_encoder_2!;
    const adapters = [components.text_encoder, second].map(({ params }, seed) => randomLora(params, ["q_proj"], seed));
    const loras = [{ text_encoder: adapters[0]!, text_encoder_2: adapters[1]!, weight: 0.5 }];
    const merged = (params: HostParams, index: number) => mergeLora(params, [{ ...adapters[index]!, weight: 0.5 }]);
    const { images } = await pipeline.generate(prompts, { noise, loras });
    expectClose(
      images,
      await expectedImages(null, {
        ...xl,
        text_encoder: { ...components.text_encoder, params: merged(components.text_encoder.params, 0) },
        text_encoder_2: { ...second, params: merged(second.params, 1) },
      }),
    );
  });

  it("and asks for the second text encoder where it is missing", () => {
    const { text_encoder_2: _, ...rest } = xl;
    expect(() => createPipeline({ ...options, components: rest })).toThrow(
      /"addition_embed_type" is "text_time", .* needs the components text_encoder_2\./,
    );
  });
});
