import { describe, expect, expectTypeOf, it } from "vitest";
import { components, controlled } from "../pipeline/pipeline-case.test-support.js";
import { createPipeline } from "../pipeline/pipeline.js";
import type { PipelineOptions } from "../pipeline/pipeline-types.js";
import type { fetchPipeline } from "./fetch-pipeline.js";
import type { LoadedPipelineFolder, LoadedTextToImage } from "./open-pipeline.js";
import type { PipelineComponents } from "./components.js";

const backend = {} as PipelineOptions<never>["backend"]; // nothing is computed
const create = (given: Partial<PipelineComponents>) => () => createPipeline({ components: given, backend });
const withUNet = (fields: Partial<PipelineComponents["unet"]["config"]>): Partial<PipelineComponents> => ({
  ...components,
  unet: { ...components.unet, config: { ...components.unet.config, ...fields } },
});

describe("createPipeline refuses by name", () => {
  it("what lacks a component", () => {
    const { vae: _, tokenizer: __, ...rest } = components;
    expect(create(rest)).toThrow(
      expect.objectContaining({
        code: "INVALID_ARGUMENT",
        message:
          "createPipeline: a pipeline with this U-Net also needs the components vae, tokenizer. Load them with the others.",
      }),
    );
    expect(create({})).toThrow(/needs the components unet, vae, text_encoder, tokenizer, scheduler/);
  });

  it.each([
    [9, /takes 9 channels and gives 4.*latents have 4.*a mask and a masked picture \(StableDiffusionInpaintPipeline\)/],
    [8, /StableDiffusionInstructPix2PixPipeline/],
    [7, /StableDiffusionUpscalePipeline/],
    [5, /StableDiffusionDepth2ImgPipeline/],
    [16, /Use an autoencoder and a U-Net of one model/],
  ])("a U-Net of %i channels", (channels, message) => {
    const refused = create(withUNet({ in_channels: channels }));
    expect(refused).toThrow(expect.objectContaining({ code: "UNSUPPORTED_CONFIG" }));
    expect(refused).toThrow(message);
  });

  it("Stable Diffusion XL's refiner, which has no first text encoder and takes an aesthetic score", () => {
    const {
      text_encoder: first,
      tokenizer,
      ...rest
    } = withUNet({
      addition_embed_type: "text_time",
      addition_time_embed_dim: 256,
      projection_class_embeddings_input_dim: 2560, // as published: 1280 + 5 * 256
    });
    const second = {
      ...first!,
      className: "CLIPTextModelWithProjection",
      config: { ...first!.config, projection_dim: 1280 },
    };
    const refiner = {
      ...rest,
      text_encoder_2: second as PipelineComponents["text_encoder_2"],
      tokenizer_2: tokenizer!,
    };
    expect(create(refiner)).toThrow(/takes 5 numbers beside the pooled text embedding, and 6 are given.*refiner/);
  });

  it("a text encoder, a ControlNet or a scheduler that does not fit", () => {
    expect(create(withUNet({ cross_attention_dim: 1024 }))).toThrow(
      /attends to 1024 features \("cross_attention_dim"\), and the text encoder gives 8 \("hidden_size"\)/,
    );
    const [control] = controlled.controlnet!;
    const other = { ...control!, config: { ...control!.config, cross_attention_dim: 768 } };
    expect(create({ ...components, controlnet: [control!, other] })).toThrow(
      /ControlNet 1 was made for another U-Net: its "cross_attention_dim" is 768, the U-Net's is 8/,
    );
    const scheduler = { ...components.scheduler, _class_name: "FlowMatchEulerDiscreteScheduler" };
    expect(create({ ...components, scheduler })).toThrow(/FlowMatchEulerDiscreteScheduler/);
  });
});

it("createPipeline takes what the loaders give, in types too", () => {
  // What an earlier version refused: TS2322.
  type Loaded = LoadedPipelineFolder<Partial<PipelineComponents>>["components"];
  expectTypeOf<Awaited<ReturnType<typeof fetchPipeline>>["components"]>().toEqualTypeOf<Loaded>();
  expectTypeOf<Loaded>().toExtend<PipelineOptions<never>["components"]>();
  expectTypeOf<LoadedTextToImage["components"]>().toExtend<PipelineOptions<never>["components"]>();
});
