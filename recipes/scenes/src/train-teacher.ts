import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  HostTensor,
  SdxsError,
  cosineSchedule,
  initialize,
  mapTensors,
  prefixed,
  random,
  select,
  type Backend,
  type HostParams,
} from "@sdxs/tensor";
import { createPipeline, textEncoderParameters, type PromptTokenizer, type TextToImageComponents } from "@sdxs/runtime";
import { loadModel, loadTokenizerFolder, savePipelineFolder, type Model } from "@sdxs/runtime/node";
import { unetParameters } from "@sdxs/tiny-unet";
import { gradientTask, takeRows, type Metrics } from "@sdxs/training";
import { contactSheet } from "../../contact-sheet.js";
import { imageEncoder, schedulerConfig, teacherTraining } from "../../diffusion-model.js";
import { mean } from "../../pixel-quality.js";
import { mapBatches, takeOutputs } from "../../rows.js";
import { runTask, type RunTaskOptions } from "../../run-task.js";
import { latentPool, type CaptionedLatents } from "./latent-pool.js";
import { promptTokens, teacherConfig, textEncoderConfig } from "./models.js";
import { latentSpec } from "./networks.js";
import { heldOutScenes, tokenizerFolder, type SceneSource } from "./scenes.js";

export interface TeacherTrainingOptions<D> extends RunTaskOptions {
  readonly backend: Backend<D>;
  readonly scenes: SceneSource;
  readonly autoencoder: Model<"AutoencoderKL">;
  /** Where the pipeline goes, in diffusers' layout. One that is there already is what training goes on from. */
  readonly outputFolder: string;
  readonly seed: number;
  /** Of this training, besides those that the weights in the folder had. */
  readonly steps: number;
  readonly batch: number;
  /** The learning rate after its rise, and at the last step. */
  readonly rate: number;
  readonly finalRate: number;
}

/** Share of empty captions, for classifier-free guidance (arXiv:2207.12598 uses 0.1 to 0.2). */
const unconditionalRate = 0.1;
/** Captions of each scene. Chosen: what is left out differs from one use to the next. */
const captionsPerScene = 4;
/** Of the held-out scenes. Chosen: a minute on two cores. */
const validationScenes = 64;
const shownCaptions = 16;
const validationEverySteps = 500;
/** Chosen for a look on the way, not by measurement. */
const sampling = { steps: 16, guidanceScale: 3 };

/**
 * Trains U-Net and text encoder on the latents of ever new scenes. At each validation and in the end the averaged weights are
 * saved as fp16, as a whole pipeline, with the number of steps that they had, in `training.json`; a sheet of pictures for
 * held-out captions stands beside the logs.
 *
 * Two ways to go on: with the work folder's checkpoint exactly; without it, on another machine, from the saved weights, with
 * fresh moments and a rising learning rate, on scenes that were not used before.
 */
export async function trainTeacher<D>(options: TeacherTrainingOptions<D>): Promise<void> {
  const { backend, seed, steps, batch, outputFolder, workFolder } = options;
  const tokenizer = await loadTokenizerFolder(tokenizerFolder);
  const start = await startingPoint(options, tokenizer);
  const textConfig = textEncoderConfig(tokenizer.vocabularySize);
  const program = teacherTraining(teacherConfig, textConfig);
  const emptyIds = tokenizer.encodeBatch([""], promptTokens).data;
  const pool = latentPool({
    folder: join(workFolder, "latents"),
    key: `seed ${seed}, scale ${options.autoencoder.config.scaling_factor}`,
    pieceSize: 256,
    firstPieces: 8,
    pieces: 32,
    stepsPerPiece: Math.ceil(1600 / batch), // chosen: each scene is drawn about six times
    compute: (first, count) => encodeScenes(options, tokenizer, heldOutScenes + first, count),
  });
  const task = await gradientTask({
    name: "teacher",
    backend,
    program,
    params: start.params,
    inputs: {
      latents: latentSpec(batch),
      noise: latentSpec(batch),
      timestep: { shape: [batch], dtype: "int32" },
      ids: { shape: [batch, promptTokens], dtype: "int32" },
    },
    async batch(step) {
      const stream = random(seed, "teacher", start.steps + step);
      const { latents, ids } = await pool.batch(start.steps + step, batch, stream);
      stream
        .at("unconditional")
        .uniform([batch])
        .data.forEach((value, row) => {
          if (value < unconditionalRate) ids.data.set(emptyIds, row * promptTokens);
        });
      return {
        latents,
        noise: stream.at("noise").normal(latents.shape),
        timestep: stream.at("timestep").integers([batch], 0, 1000),
        ids,
      };
    },
    batchSize: batch,
    optimizer: { weightDecay: 0.01, clipNorm: 1, emaDecay: 0.999 },
    learningRate: cosineSchedule({
      rate: options.rate,
      warmupSteps: Math.min(200, Math.floor(steps / 10)),
      totalSteps: steps,
      finalRate: options.finalRate,
    }),
    steps,
  });
  const heldOut = await encodeScenes(options, tokenizer, 0, validationScenes, 1);
  const measure = async (step: number): Promise<Metrics> => {
    const params = await task.weights({ averaged: true });
    const components = componentsOf(options, tokenizer, params);
    await savePipelineFolder(outputFolder, { components }, { dtype: "F16" });
    await writeFile(join(outputFolder, "training.json"), `${JSON.stringify({ steps: start.steps + step })}\n`);
    await writeFile(join(workFolder, "teacher.png"), await samplesOf(options, components));
    return { loss: await heldOutLoss(options, program, params, heldOut) };
  };
  await runTask(options, task, () => Promise.resolve(), {
    checkpointEverySeconds: 180,
    validate: { everySteps: validationEverySteps, run: measure },
  });
}

/** The saved weights and the steps that they had, or random ones. */
async function startingPoint<D>(
  { outputFolder, seed }: TeacherTrainingOptions<D>,
  tokenizer: PromptTokenizer,
): Promise<{ readonly params: HostParams; readonly steps: number }> {
  const file = join(outputFolder, "training.json");
  const text = await readFile(file, "utf8").catch(() => undefined);
  if (text === undefined) {
    const textConfig = textEncoderConfig(tokenizer.vocabularySize);
    return {
      params: {
        ...prefixed(initialize(unetParameters(teacherConfig), seed), "unet."),
        ...prefixed(initialize(textEncoderParameters(textConfig), seed), "text_encoder."),
      },
      steps: 0,
    };
  }
  const { steps } = JSON.parse(text) as { readonly steps?: unknown };
  if (typeof steps !== "number" || !Number.isSafeInteger(steps) || steps < 0) {
    throw new SdxsError(
      "MALFORMED_FILE",
      `trainTeacher: ${file} must hold { "steps": whole number }, got ${text.trim()}.`,
    );
  }
  const [unet, textEncoder] = await Promise.all([
    loadModel(join(outputFolder, "unet"), { className: "UNet2DConditionModel" }),
    loadModel(join(outputFolder, "text_encoder"), { className: "CLIPTextModel" }),
  ]);
  return { params: { ...prefixed(unet.params, "unet."), ...prefixed(textEncoder.params, "text_encoder.") }, steps };
}

/** Scaled latents of scenes, and tokens of so many captions of each. */
async function encodeScenes<D>(
  { backend, scenes, seed, autoencoder }: TeacherTrainingOptions<D>,
  tokenizer: PromptTokenizer,
  first: number,
  count: number,
  captions = captionsPerScene,
): Promise<CaptionedLatents> {
  const { images, captions: given } = scenes.captionedBatch(seed, first, count, captions);
  const { latents } = await mapBatches(backend, imageEncoder(autoencoder.config), autoencoder.params, { images }, 16);
  const ids = tokenizer.encodeBatch(given.flat(), promptTokens);
  return { latents, ids: new HostTensor([count, captions, promptTokens], ids.data) };
}

/** Equation 1 on held-out scenes, always with the same noise, at timesteps that are spread evenly. */
async function heldOutLoss<D>(
  { backend, batch }: TeacherTrainingOptions<D>,
  program: ReturnType<typeof teacherTraining>,
  params: HostParams,
  { latents, ids }: CaptionedLatents,
): Promise<number> {
  const timesteps = Int32Array.from({ length: validationScenes }, (_, i) => ((i + 0.5) * 1000) / validationScenes);
  const inputs = {
    latents,
    noise: random("held-out noise").normal(latents.shape),
    timestep: new HostTensor([validationScenes], timesteps),
    ids: new HostTensor([validationScenes, promptTokens], ids.data),
  };
  const specs = {
    latents: latentSpec(batch),
    noise: latentSpec(batch),
    timestep: { shape: [batch], dtype: "int32" },
    ids: { shape: [batch, promptTokens], dtype: "int32" },
  } as const;
  const compiled = await backend.compile(program, { frozen: params, inputs: specs });
  const losses: number[] = [];
  for (let first = 0; first + batch <= validationScenes; first += batch) {
    const rows = Array.from({ length: batch }, (_, row) => first + row);
    const outputs = await compiled.run({}, mapTensors(inputs, (tensor) => takeRows(tensor, rows)) as typeof inputs);
    losses.push((await takeOutputs(backend, outputs)).loss.item());
  }
  await compiled.dispose();
  return mean(losses);
}

function componentsOf<D>(
  { autoencoder }: TeacherTrainingOptions<D>,
  tokenizer: PromptTokenizer,
  params: HostParams,
): TextToImageComponents {
  return {
    scheduler: schedulerConfig,
    tokenizer,
    text_encoder: {
      className: "CLIPTextModel",
      config: textEncoderConfig(tokenizer.vocabularySize),
      params: select(params, "text_encoder."),
    },
    unet: { className: "UNet2DConditionModel", config: teacherConfig, params: select(params, "unet.") },
    vae: autoencoder,
  };
}

/** A sheet of pictures for the first held-out captions. */
async function samplesOf<D>(
  { backend, scenes, seed }: TeacherTrainingOptions<D>,
  components: TextToImageComponents,
): Promise<Buffer> {
  const { captions } = scenes.batch(seed, 0, shownCaptions);
  const pipeline = createPipeline({ components, backend });
  try {
    const { images } = await pipeline.generate(captions, { ...sampling, seed: 1 });
    return await contactSheet(images, captions, { columns: 8, magnification: 1 });
  } finally {
    await pipeline.dispose();
  }
}
