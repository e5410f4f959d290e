import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { InvalidArgumentError } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { ablationBudget, reportAblation } from "./ablation.js";
import { conditionKinds } from "./controlnet/conditions.js";
import { controlNetBudget, reportControlNet } from "./controlnet/report-controlnet.js";
import { loadEmojiDataset } from "./dataset.js";
import { distilAndReport } from "./distil-and-report.js";
import { quickstartBudget, type DistillationBudget } from "./distil.js";
import { captionModelFile } from "./evaluation/caption-model.js";
import { evaluationTable } from "./evaluation/evaluate.js";
import { evaluationLimits } from "./evaluation/limits.js";
import { loadJudge } from "./evaluation/judge.js";
import { trainCaptionModel } from "./evaluation/train-caption-model.js";
import { heldOutStyleNames, loraBudget, reportLora } from "./lora/report-lora.js";
import { progressBars } from "./progress-bars.js";
import { runProgram, wholeNumber } from "./program.js";
import { readTeacher, teacherFolder } from "./teacher.js";
import { compareTinyAutoencoders } from "./tiny-vae/compare.js";
import { reportTinyUNet } from "./tiny-unet/report-tiny-unet.js";
import { trainTeacher } from "./train-teacher.js";
import { openWorkFolder } from "./work-folder.js";

/** As the quickstart, and score distillation. */
const studentBudget: DistillationBudget = { ...quickstartBudget, scoreSteps: 600 };

const usage = `npm run recipe:emoji -- COMMAND [options]

teacher   train the autoencoder and the multi-step teacher, which the others distil
  --autoencoder-steps N   default 2000
  --teacher-steps N       default 6000
  --decoder-steps N       default 1500
  --work FOLDER           checkpoints and logs (default recipes/emoji/work)
  --output FOLDER         the models (default recipes/emoji/teacher)

student   distil the teacher as the quickstart does, then by segmented score distillation
  --pairs N               noise-image pairs, default ${studentBudget.pairs}
  --decoder-steps N       default ${studentBudget.decoderSteps}
  --unet-steps N          default ${studentBudget.unetSteps}
  --warmup-steps N        default ${studentBudget.warmupSteps}
  --score-steps N         default ${studentBudget.scoreSteps}
  --prompt TEXT           draw this prompt as well; may be repeated
  --output FOLDER         default student
  --restart               forget an earlier run in that folder

ablation  train the student in several ways and judge its pictures beside the teacher's (about an hour)
  --pairs N               noise-image pairs, default ${ablationBudget.pairs}
  --warmup-steps N        default ${ablationBudget.warmupSteps}
  --score-steps N         default ${ablationBudget.scoreSteps}
  --dmd2-steps N          default ${ablationBudget.dmd2Steps}
  --texture-steps N       default ${ablationBudget.textureSteps}
  --pictures N            of each model, default 400
  --output FOLDER         default ablation
  --restart               forget an earlier run in that folder

tiny-unet distil the teacher into the tiny U-Net by Equation 8, whole and with each part left out
  --steps N               updates of the tiny U-Net, default 500
  --ablation-steps N      updates in each distillation that is compared, default 100
  --pairs N               samples of the teacher, default 1024
  --pictures N            pictures of each model that are judged, default 256
  --output FOLDER         default tiny-unet
  --restart               forget an earlier run in that folder

controlnet  train ControlNets for edges and depth: the teacher's, then the one-step student's (about 40 minutes)
  --condition KIND        edges or depth alone; default both
  --steps N               of each teacher's ControlNet, default ${controlNetBudget.steps}
  --distillation-steps N  default ${controlNetBudget.distillationSteps}
  --warmup-steps N        default ${controlNetBudget.warmupSteps}
  --score-steps N         default ${controlNetBudget.scoreSteps}
  --pictures N            of each model that are judged, default 48
  --output FOLDER         default controlnet
  --restart               forget an earlier run in that folder

lora      give teacher and student two styles that they never saw, by LoRAs (about 20 minutes)
  --style STYLE           3d or line alone; default both
  --steps N               of each teacher's LoRA, default ${loraBudget.steps}
  --distillation-steps N  of each student's LoRA, default ${loraBudget.distillationSteps}
  --pairs N               samples of the teacher with its LoRA, default ${loraBudget.pairs}
  --pictures N            of each model that are judged, default 48
  --output FOLDER         default lora
  --restart               forget an earlier run in that folder

judge     train the image-text model that tells whether pictures show their prompts
  --steps N               default 1500
  --work FOLDER           checkpoints and log (default recipes/emoji/work/judge)
  --output FILE           the weights (default recipes/emoji/judge/caption-model.safetensors)

tiny-vae  distil tiny decoders by several objectives, and a tiny encoder, and compare them on held-out pictures
  --steps N               of each network, default 8000
  --pictures N            that they learn from, default 2048
  --output FOLDER         default tiny-vae
  --restart               forget an earlier run in that folder

All take --seed N (default 1), and go on where they were interrupted.`;

await runProgram(async (signal) => {
  const [command = "", ...args] = process.argv.slice(2);
  switch (command) {
    case "teacher":
      return teacher(args, signal);
    case "student":
      return student(args, signal);
    case "ablation":
      return ablation(args, signal);
    case "tiny-unet":
      return tinyUNet(args, signal);
    case "controlnet":
      return controlNet(args, signal);
    case "lora":
      return lora(args, signal);
    case "judge":
      return judge(args, signal);
    case "tiny-vae":
      return tinyVae(args, signal);
    case "--help":
    case "":
      console.log(usage);
      return;
    default:
      throw new InvalidArgumentError(`Expected a command, got "${command}".\n\n${usage}`);
  }
});

async function teacher(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      "autoencoder-steps": { type: "string", default: "2000" },
      "teacher-steps": { type: "string", default: "6000" },
      "decoder-steps": { type: "string", default: "1500" },
      seed: { type: "string", default: "1" },
      work: { type: "string", default: fileURLToPath(new URL("../work", import.meta.url)) },
      output: { type: "string", default: teacherFolder },
    },
  });
  const bars = progressBars();
  await trainTeacher({
    backend: onnxBackend({ ort }),
    workFolder: resolve(values.work),
    outputFolder: resolve(values.output),
    seed: wholeNumber("--seed", values.seed),
    autoencoderSteps: wholeNumber("--autoencoder-steps", values["autoencoder-steps"]),
    teacherSteps: wholeNumber("--teacher-steps", values["teacher-steps"]),
    decoderSteps: wholeNumber("--decoder-steps", values["decoder-steps"]),
    signal,
    onProgress: bars.update,
  }).finally(bars.stop);
  console.log(`The teacher is in ${resolve(values.output)}.`);
}

async function student(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      pairs: { type: "string", default: String(studentBudget.pairs) },
      "decoder-steps": { type: "string", default: String(studentBudget.decoderSteps) },
      "unet-steps": { type: "string", default: String(studentBudget.unetSteps) },
      "warmup-steps": { type: "string", default: String(studentBudget.warmupSteps) },
      "score-steps": { type: "string", default: String(studentBudget.scoreSteps) },
      prompt: { type: "string", multiple: true, default: [] },
      seed: { type: "string", default: "1" },
      output: { type: "string", default: "student" },
      restart: { type: "boolean", default: false },
    },
  });
  await distilAndReport({
    budget: {
      pairs: wholeNumber("--pairs", values.pairs),
      decoderSteps: wholeNumber("--decoder-steps", values["decoder-steps"]),
      unetSteps: wholeNumber("--unet-steps", values["unet-steps"]),
      warmupSteps: wholeNumber("--warmup-steps", values["warmup-steps"]),
      scoreSteps: wholeNumber("--score-steps", values["score-steps"]),
    },
    seed: wholeNumber("--seed", values.seed),
    output: resolve(values.output),
    prompts: values.prompt,
    restart: values.restart,
    signal,
  });
}

async function ablation(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      pairs: { type: "string", default: String(ablationBudget.pairs) },
      "warmup-steps": { type: "string", default: String(ablationBudget.warmupSteps) },
      "score-steps": { type: "string", default: String(ablationBudget.scoreSteps) },
      "dmd2-steps": { type: "string", default: String(ablationBudget.dmd2Steps) },
      "texture-steps": { type: "string", default: String(ablationBudget.textureSteps) },
      pictures: { type: "string", default: "400" },
      seed: { type: "string", default: "1" },
      output: { type: "string", default: "ablation" },
      restart: { type: "boolean", default: false },
    },
  });
  await reportAblation({
    budget: {
      ...ablationBudget,
      pairs: wholeNumber("--pairs", values.pairs),
      warmupSteps: wholeNumber("--warmup-steps", values["warmup-steps"]),
      scoreSteps: wholeNumber("--score-steps", values["score-steps"]),
      dmd2Steps: wholeNumber("--dmd2-steps", values["dmd2-steps"]),
      textureSteps: wholeNumber("--texture-steps", values["texture-steps"]),
    },
    pictures: wholeNumber("--pictures", values.pictures),
    seed: wholeNumber("--seed", values.seed),
    output: resolve(values.output),
    restart: values.restart,
    signal,
  });
}

async function tinyUNet(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      steps: { type: "string", default: "500" },
      "ablation-steps": { type: "string", default: "100" },
      pairs: { type: "string", default: "1024" },
      pictures: { type: "string", default: "256" },
      seed: { type: "string", default: "1" },
      output: { type: "string", default: "tiny-unet" },
      restart: { type: "boolean", default: false },
    },
  });
  await reportTinyUNet({
    steps: wholeNumber("--steps", values.steps),
    ablationSteps: wholeNumber("--ablation-steps", values["ablation-steps"]),
    pairs: wholeNumber("--pairs", values.pairs),
    pictures: wholeNumber("--pictures", values.pictures),
    seed: wholeNumber("--seed", values.seed),
    output: resolve(values.output),
    restart: values.restart,
    signal,
  });
}

async function controlNet(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      condition: { type: "string", multiple: true, default: [...conditionKinds] },
      steps: { type: "string", default: String(controlNetBudget.steps) },
      "distillation-steps": { type: "string", default: String(controlNetBudget.distillationSteps) },
      "warmup-steps": { type: "string", default: String(controlNetBudget.warmupSteps) },
      "score-steps": { type: "string", default: String(controlNetBudget.scoreSteps) },
      pictures: { type: "string", default: "48" },
      seed: { type: "string", default: "1" },
      output: { type: "string", default: "controlnet" },
      restart: { type: "boolean", default: false },
    },
  });
  await reportControlNet({
    budget: {
      steps: wholeNumber("--steps", values.steps),
      distillationSteps: wholeNumber("--distillation-steps", values["distillation-steps"]),
      warmupSteps: wholeNumber("--warmup-steps", values["warmup-steps"]),
      scoreSteps: wholeNumber("--score-steps", values["score-steps"]),
    },
    kinds: values.condition.map((kind) => oneOf("--condition", conditionKinds, kind)),
    pictures: wholeNumber("--pictures", values.pictures),
    seed: wholeNumber("--seed", values.seed),
    output: resolve(values.output),
    restart: values.restart,
    signal,
  });
}

function oneOf<Choice extends string>(option: string, choices: readonly Choice[], text: string): Choice {
  const choice = choices.find((known) => known === text);
  if (choice !== undefined) return choice;
  throw new InvalidArgumentError(`${option} must be ${choices.join(" or ")}, got "${text}".`);
}

async function lora(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      style: { type: "string", multiple: true, default: [...heldOutStyleNames] },
      steps: { type: "string", default: String(loraBudget.steps) },
      "distillation-steps": { type: "string", default: String(loraBudget.distillationSteps) },
      pairs: { type: "string", default: String(loraBudget.pairs) },
      pictures: { type: "string", default: "48" },
      seed: { type: "string", default: "1" },
      output: { type: "string", default: "lora" },
      restart: { type: "boolean", default: false },
    },
  });
  await reportLora({
    styles: values.style.map((style) => oneOf("--style", heldOutStyleNames, style)),
    budget: {
      steps: wholeNumber("--steps", values.steps),
      distillationSteps: wholeNumber("--distillation-steps", values["distillation-steps"]),
      pairs: wholeNumber("--pairs", values.pairs),
    },
    pictures: wholeNumber("--pictures", values.pictures),
    seed: wholeNumber("--seed", values.seed),
    output: resolve(values.output),
    restart: values.restart,
    signal,
  });
}

async function judge(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      steps: { type: "string", default: "1500" },
      seed: { type: "string", default: "1" },
      work: { type: "string", default: fileURLToPath(new URL("../work/judge", import.meta.url)) },
      output: { type: "string", default: captionModelFile },
    },
  });
  const backend = onnxBackend({ ort });
  const bars = progressBars();
  await trainCaptionModel({
    backend,
    workFolder: resolve(values.work),
    outputFile: resolve(values.output),
    seed: wholeNumber("--seed", values.seed),
    steps: wholeNumber("--steps", values.steps),
    signal,
    onProgress: bars.update,
  }).finally(bars.stop);
  console.log(
    `The image-text model is in ${resolve(values.output)}. What the judges say of pictures of known quality:\n`,
  );
  console.log(evaluationTable(await evaluationLimits(backend, join(resolve(values.work), "reference.safetensors"))));
}

async function tinyVae(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      steps: { type: "string", default: "8000" },
      pictures: { type: "string", default: "2048" },
      seed: { type: "string", default: "1" },
      output: { type: "string", default: "tiny-vae" },
      restart: { type: "boolean", default: false },
    },
  });
  const seed = wholeNumber("--seed", values.seed);
  const outputFolder = resolve(values.output);
  const workFolder = await openWorkFolder({ output: outputFolder, seed, restart: values.restart });
  const backend = onnxBackend({ ort });
  const { autoencoder } = await readTeacher();
  const bars = progressBars();
  const tables = await compareTinyAutoencoders({
    backend,
    autoencoder,
    dataset: await loadEmojiDataset(),
    judge: await loadJudge(backend),
    seed,
    steps: wholeNumber("--steps", values.steps),
    pictures: wholeNumber("--pictures", values.pictures),
    workFolder,
    outputFolder,
    signal,
    onProgress: bars.update,
  }).finally(bars.stop);
  console.log(`\n${tables}\nTables and pictures are in ${outputFolder}.`);
}
