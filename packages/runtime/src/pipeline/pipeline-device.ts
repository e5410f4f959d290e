import { combineHost, memoryOf, type SamplerPlan } from "@sdxs/diffusion";
import { HostTensor, SdxsError, breather, mapTensors, specsOf, type Backend, type TensorSpec } from "@sdxs/tensor";
import { LoraSwitch } from "./pipeline-loras.js";
import {
  autoencoderWeights,
  decoderProgram,
  denoiserWeights,
  encoderProgram,
  factorsOf,
  stepProgram,
  type EncoderInput,
  type StepInput,
  type StepOutput,
} from "./pipeline-programs.js";
import type { EncodedImage, GenerateRequest } from "./pipeline-request.js";
import { PipelineStage, disposeAll, type PipelineStageOptions } from "./pipeline-stage.js";
import type { PipelineCalibration } from "./pipeline-types.js";
import type { PipelineWarning } from "../checkpoints/pipeline-warnings.js";
import type { GeneratedImages } from "./pipeline-types.js";
import type { TextToImageComponents } from "../checkpoints/components.js";
import { PromptEncoder, type CutPrompt } from "./prompt-embeddings.js";

export interface PipelineDeviceOptions extends Pick<PipelineStageOptions, "precision"> {
  readonly int8?: PipelineCalibration | undefined;
  /** Keeps what `calibrate` needs of each picture. */
  readonly recording?: boolean;
}

export interface DrawnImages extends Omit<GeneratedImages, "warnings"> {
  readonly warnings: readonly PipelineWarning[];
}

/** What a pipeline has on one device: networks, compiled programs and embeddings. One `draw` at a time. */
export class PipelineDevice<D> {
  private readonly text: PromptEncoder<D>;
  private readonly step: PipelineStage<D, StepInput, StepOutput>;
  private readonly encoder: PipelineStage<D, EncoderInput, "sample">;
  private readonly decoder: PipelineStage<D, "latents", "images">;
  private readonly loras: readonly LoraSwitch[];

  constructor(
    private readonly backend: Backend<D>,
    components: TextToImageComponents,
    { int8, precision = "float32", recording = false }: PipelineDeviceOptions = {},
  ) {
    const { unet, text_encoder: first, text_encoder_2: second } = components;
    this.text = new PromptEncoder(backend, components, { precision });
    this.step = new PipelineStage(backend, denoiserWeights(components), stepProgram(components), {
      int8: int8?.unet,
      precision,
      recording,
    });
    const ofAutoencoder = { precision: upcastsAutoencoder(components) ? "float32" : precision } as const;
    this.encoder = new PipelineStage(
      backend,
      autoencoderWeights(components, "encoder"),
      encoderProgram(components),
      ofAutoencoder,
    );
    this.decoder = new PipelineStage(backend, autoencoderWeights(components, "decoder"), decoderProgram(components), {
      ...ofAutoencoder,
      int8: int8?.decoder,
      recording,
    });
    const encoders = { text_encoder: first.params, ...(second && { text_encoder_2: second.params }) };
    this.loras = [
      new LoraSwitch(encoders, (changed) => this.text.adapt(changed)),
      new LoraSwitch({ unet: unet.params }, (changed) => this.step.adapt(changed)),
    ];
  }

  async draw(request: GenerateRequest): Promise<DrawnImages> {
    const { prompts, negativePrompt, plan, guidanceScale, guidanceEmbedding, noise, noiseOf, signal, onStep } = request;
    const throwIfAborted = (): void => {
      if (signal?.aborted) throw new SdxsError("ABORTED", "generate: aborted.", { cause: signal.reason });
    };
    throwIfAborted();
    const clock = stopwatch();
    for (const apply of this.loras.map((stage) => stage.prepare(request.loras))) await apply();
    const seen = guidanceScale !== undefined ? [...prompts.map(() => negativePrompt), ...prompts] : prompts;
    const { tensors: embeddings, cut } = await this.text.embed(seen);
    const textMs = clock();

    throwIfAborted();
    const begun = request.image && (await this.encode(request.image, plan, noise));
    const imageMs = clock();

    const sizes =
      request.sizes &&
      HostTensor.from(
        [seen.length, 6],
        seen.flatMap(() => request.sizes ?? []),
      );
    const same = {
      ...(sizes && { timeIds: sizes }),
      ...(guidanceScale !== undefined && { guidanceScale: HostTensor.scalar(guidanceScale) }),
      ...(guidanceEmbedding && { guidanceEmbedding }),
      ...Object.fromEntries(
        request.controls.flatMap(({ image, scale = 1 }, index) => [
          [`condition.${index}`, image],
          [`${request.guessMode ? "guess" : "strength"}.${index}`, HostTensor.filled([1], scale)],
        ]),
      ),
    } as Partial<Record<StepInput, HostTensor>> as Readonly<Record<StepInput, HostTensor>>;
    const latents: TensorSpec = { shape: noise.shape };
    const needed = memoryOf(plan);
    // One program for any number of steps: those of second-order samplers need one prediction, their first step none.
    const memory = { ...needed, predictions: Math.max(1, needed.predictions) };
    const owned = new Set<D>(); // what the sampler has on the device: its sample and what it remembers
    const keepOnly = (held: readonly unknown[]): void => {
      for (const tensor of owned) {
        if (held.includes(tensor)) continue;
        this.backend.dispose(tensor);
        owned.delete(tensor);
      }
    };
    try {
      let sample: D | HostTensor = begun ?? combineHost([[plan.initNoiseSigma, noise]]);
      // What there is not yet has a factor of 0.
      let previous = Array<D | HostTensor>(memory.predictions).fill(noise);
      let base: D | HostTensor = noise;
      const breathe = breather();
      for (const [index, step] of plan.steps.entries()) {
        await breathe();
        throwIfAborted();
        const host = {
          ...same,
          noise: step.update.noise === 0 ? noise : noiseOf(index + 1),
          timestep: HostTensor.filled([1], step.timestep),
          factors: factorsOf(step, memory),
        };
        const remembered = {
          sample,
          ...(memory.base && { base }),
          ...Object.fromEntries(previous.map((tensor, age) => [`previous.${age}`, tensor])),
        } as Readonly<Record<StepInput, D | HostTensor>>;
        const next = await this.step.run(
          { ...specsOf(host), ...mapTensors(remembered, () => latents), ...this.text.specs(seen.length) },
          { ...host, ...embeddings, ...remembered },
        );
        for (const tensor of Object.values(next)) owned.add(tensor);
        sample = next.sample;
        previous = [next.prediction, ...previous].slice(0, memory.predictions);
        base = next.base;
        keepOnly([sample, base, ...previous]);
        onStep?.(index + 1, plan.steps.length);
      }
      const unetMs = clock();

      throwIfAborted();
      const { images: device } = await this.decoder.run({ latents }, { latents: sample });
      owned.add(device);
      const images = await this.backend.download(device);
      const decoderMs = clock();
      if (!allFinite(images)) {
        const made = {
          "text encoder": embeddings.context,
          ...(begun && { "image encoder": begun }),
          "U-Net": sample as D,
        };
        throw await nonFinite(this.backend, made);
      }
      const times = {
        textEncoder: textMs,
        ...(begun && { imageEncoder: imageMs }),
        unet: unetMs,
        decoder: decoderMs,
      };
      const warnings = [...request.warnings, ...truncations(cut, this.text.tokens), ...blackPictures(images)];
      return { images, times, warnings };
    } finally {
      keepOnly([]);
      if (begun) this.backend.dispose(begun);
    }
  }

  /** What the sampler's first step begins with. */
  private async encode(image: EncodedImage, plan: SamplerPlan, noise: HostTensor): Promise<D> {
    const { alpha, sigma } = plan.steps[0]!.level;
    const inputs = { ...image, noise, level: HostTensor.from([2], [alpha, sigma]) };
    return (await this.encoder.run(specsOf(inputs), inputs)).sample;
  }

  /** Ranges of what the pictures drawn took, where they are recorded. */
  async calibrate(): Promise<PipelineCalibration> {
    return { unet: await this.step.calibrate(), decoder: await this.decoder.calibrate() };
  }

  async dispose(): Promise<void> {
    await disposeAll([this.text, this.encoder, this.step, this.decoder]);
  }
}

/** diffusers' pipelines of Stable Diffusion XL compute such an autoencoder in float32 where all else is in float16. */
function upcastsAutoencoder({ unet, vae }: TextToImageComponents): boolean {
  return unet.config.addition_embed_type !== null && vae.className === "AutoencoderKL" && vae.config.force_upcast;
}

const allFinite = ({ data }: HostTensor): boolean => data.every(Number.isFinite);

/** Milliseconds since the last call. */
function stopwatch(): () => number {
  let begin = performance.now();
  return () => {
    const now = performance.now();
    const lap = now - begin;
    begin = now;
    return lap;
  };
}

/** The error of the first stage whose result is not finite; the decoder's where those before it are. */
async function nonFinite<D>(backend: Backend<D>, results: Readonly<Record<string, D>>): Promise<SdxsError> {
  let stage = "decoder";
  for (const [name, tensor] of Object.entries(results)) {
    if (allFinite(await backend.download(tensor))) continue;
    stage = name;
    break;
  }
  return new SdxsError(
    "NON_FINITE",
    `generate: the ${stage} gave numbers that are not finite. Check its weights; a network that overflows in float16 needs ` +
      `float32.`,
  );
}

function truncations(cut: readonly CutPrompt[], tokens: number): PipelineWarning[] {
  const messages = cut.map(
    ({ prompt, lost }) =>
      `The prompt ${JSON.stringify(prompt)} has more than ${tokens} tokens; its last words were cut: ${JSON.stringify(lost)}.`,
  );
  return [...new Set(messages)].map((message) => ({ code: "PROMPT_CUT", message }));
}

function blackPictures({ shape, data }: HostTensor): PipelineWarning[] {
  const size = data.length / (shape[0] ?? 1);
  return Array.from({ length: shape[0] ?? 0 }, (_, image) => image)
    .filter((image) => data.subarray(image * size, (image + 1) * size).every((value) => value < BLACK))
    .map((image) => ({
      code: "BLACK_IMAGE",
      message: `Image ${image} is all black: the decoder was given latents far outside what it knows.`,
    }));
}

/** Below half a step of 8 bits. */
const BLACK = -1 + 1 / 255;
