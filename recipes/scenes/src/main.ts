import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadModel } from "@sdxs/runtime/node";
import { InvalidArgumentError } from "@sdxs/tensor";
import { openBackend } from "../../backend.js";
import { progressBars } from "../../progress-bars.js";
import { runProgram, wholeNumber } from "../../program.js";
import { autoencoderFolder } from "./models.js";
import { openScenes } from "./scenes.js";
import { writeSceneTokenizer } from "./tokenizer.js";
import { finishAutoencoder, measureAutoencoder, trainAutoencoder } from "./train-autoencoder.js";
import { trainTeacher } from "./train-teacher.js";

const usage = `npm run recipe:scenes -- COMMAND [options]

autoencoder  train the autoencoder of scenes
  --decoder-steps N  of the decoder alone, default 3000
  --steps N          of both networks, default 6000
  --batch N          scenes a step, default 4
  --crop N           pixels of each scene's side that are learned from, default 64; a multiple of 8, at most 128
  --work FOLDER      checkpoints, logs and reconstructions (default recipes/scenes/work)
  --output FOLDER    the model (default recipes/scenes/autoencoder)

finish       train the saved autoencoder's decoder further; its encoder, and so its latents, stay as they are
  --encoder          train the encoder too: no teacher must have learned the latents yet
  --steps N          default 6000
  --rate R           learning rate after its rise, default 1e-4; a twentieth of it at the last step
  --batch N, --crop N, --work FOLDER, --output FOLDER  as above; default 1 scene of 128 pixels

measure      PSNR and SSIM of the saved autoencoder's reconstructions of held-out scenes
  --pictures N       default 400
  --output FOLDER    whose (default recipes/scenes/autoencoder)

teacher      train the multi-step model on the autoencoder's latents, from the saved weights on where there are some
  --steps N          of this training, default 40000
  --batch N          default 16
  --rate R           learning rate after its rise, default 5e-4
  --final-rate R     at the last step, default 5e-4
  --work FOLDER      checkpoints, logs and samples (default recipes/scenes/work)
  --autoencoder FOLDER  whose latents it learns (default recipes/scenes/autoencoder)
  --output FOLDER    the pipeline (default recipes/scenes/teacher)

tokenizer    learn the tokenizer of captions anew, into data/tokenizer

All take --seed N (default 1), go on where they were interrupted, and
  --gpu              compute on the GPU in float32, by the package webgpu; default: on the processor
  --threads N        of the processor; 1 is fastest where other programs use it too. Default: onnxruntime's`;

const workFolder = fileURLToPath(new URL("../work", import.meta.url));

await runProgram(async (signal) => {
  const [command = "", ...args] = process.argv.slice(2);
  switch (command) {
    case "autoencoder":
      return autoencoder(args, signal);
    case "finish":
      return finish(args, signal);
    case "measure":
      return measure(args);
    case "teacher":
      return teacher(args, signal);
    case "tokenizer":
      return writeSceneTokenizer();
    case "--help":
    case "":
      console.log(usage);
      return;
    default:
      throw new InvalidArgumentError(`Expected a command, got "${command}".\n\n${usage}`);
  }
});

async function autoencoder(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      "decoder-steps": { type: "string", default: "3000" },
      steps: { type: "string", default: "6000" },
      batch: { type: "string", default: "4" },
      crop: { type: "string", default: "64" },
      seed: { type: "string", default: "1" },
      gpu: { type: "boolean", default: false },
      threads: { type: "string" },
      work: { type: "string", default: workFolder },
      output: { type: "string", default: autoencoderFolder },
    },
  });
  const backend = await openBackend({ gpu: values.gpu, threads: threadsOf(values.threads) });
  const bars = progressBars();
  await trainAutoencoder({
    backend,
    scenes: await openScenes(),
    workFolder: resolve(values.work),
    outputFolder: resolve(values.output),
    seed: wholeNumber("--seed", values.seed),
    decoderSteps: wholeNumber("--decoder-steps", values["decoder-steps"]),
    steps: wholeNumber("--steps", values.steps),
    batch: wholeNumber("--batch", values.batch),
    crop: wholeNumber("--crop", values.crop),
    signal,
    onProgress: bars.update,
  }).finally(bars.stop);
  console.log(`The autoencoder is in ${resolve(values.output)}.`);
}

async function finish(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      encoder: { type: "boolean", default: false },
      steps: { type: "string", default: "6000" },
      rate: { type: "string", default: "1e-4" },
      batch: { type: "string", default: "1" },
      crop: { type: "string", default: "128" },
      seed: { type: "string", default: "1" },
      gpu: { type: "boolean", default: false },
      threads: { type: "string" },
      work: { type: "string", default: workFolder },
      output: { type: "string", default: autoencoderFolder },
    },
  });
  const bars = progressBars();
  await finishAutoencoder({
    backend: await openBackend({ gpu: values.gpu, threads: threadsOf(values.threads) }),
    scenes: await openScenes(),
    workFolder: resolve(values.work),
    outputFolder: resolve(values.output),
    seed: wholeNumber("--seed", values.seed),
    steps: wholeNumber("--steps", values.steps),
    rate: positive("--rate", values.rate),
    withEncoder: values.encoder,
    batch: wholeNumber("--batch", values.batch),
    crop: wholeNumber("--crop", values.crop),
    signal,
    onProgress: bars.update,
  }).finally(bars.stop);
  console.log(`The autoencoder is in ${resolve(values.output)}.`);
}

async function measure(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      pictures: { type: "string", default: "400" },
      seed: { type: "string", default: "1" },
      gpu: { type: "boolean", default: false },
      threads: { type: "string" },
      output: { type: "string", default: autoencoderFolder },
    },
  });
  const { psnr, ssim } = await measureAutoencoder(
    {
      backend: await openBackend({ gpu: values.gpu, threads: threadsOf(values.threads) }),
      scenes: await openScenes(),
      seed: wholeNumber("--seed", values.seed),
      outputFolder: resolve(values.output),
    },
    wholeNumber("--pictures", values.pictures),
  );
  console.log(`${psnr.toFixed(2)} dB, SSIM ${ssim.toFixed(4)}`);
}

async function teacher(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      steps: { type: "string", default: "40000" },
      batch: { type: "string", default: "16" },
      rate: { type: "string", default: "5e-4" },
      "final-rate": { type: "string", default: "5e-4" },
      seed: { type: "string", default: "1" },
      gpu: { type: "boolean", default: false },
      threads: { type: "string" },
      work: { type: "string", default: workFolder },
      autoencoder: { type: "string", default: autoencoderFolder },
      output: { type: "string", default: fileURLToPath(new URL("../teacher", import.meta.url)) },
    },
  });
  const bars = progressBars();
  await trainTeacher({
    backend: await openBackend({ gpu: values.gpu, threads: threadsOf(values.threads) }),
    scenes: await openScenes(),
    autoencoder: await loadModel(values.autoencoder, { className: "AutoencoderKL" }),
    workFolder: resolve(values.work),
    outputFolder: resolve(values.output),
    seed: wholeNumber("--seed", values.seed),
    steps: wholeNumber("--steps", values.steps),
    batch: wholeNumber("--batch", values.batch),
    rate: positive("--rate", values.rate),
    finalRate: positive("--final-rate", values["final-rate"]),
    signal,
    onProgress: bars.update,
  }).finally(bars.stop);
  console.log(`The teacher is in ${resolve(values.output)}.`);
}

function threadsOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : wholeNumber("--threads", text);
}

function positive(option: string, text: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new InvalidArgumentError(`${option} must be a number above 0, got "${text}".`);
}
