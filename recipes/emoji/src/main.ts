import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { InvalidArgumentError } from "@sdxs/tensor";
import { ablationBudget, reportAblation } from "./ablation.js";
import { openBackend } from "../../backend.js";
import { conditionKinds } from "./controlnet/conditions.js";
import { controlNetBudget, reportControlNet } from "./controlnet/report-controlnet.js";
import { loadEmojiDataset } from "./dataset.js";
import { distilAndReport } from "./distil-and-report.js";
import { studentBudget } from "./distil.js";
import { captionModelFile } from "./evaluation/caption-model.js";
import { evaluationTable, loadEvaluationSet, referenceFeatures } from "./evaluation/evaluate.js";
import { evaluationLimits } from "./evaluation/limits.js";
import { loadJudge } from "./evaluation/judge.js";
import { trainCaptionModel } from "./evaluation/train-caption-model.js";
import { extractorsBudget, reportExtractors } from "./extractors/report-extractors.js";
import { heldOutStyleNames, loraBudget, reportLora } from "./lora/report-lora.js";
import { progressBars } from "../../progress-bars.js";
import { runProgram, wholeNumber } from "../../program.js";
import { readRunOptions } from "../../run-options.js";
import { readTinyUNet } from "./shipped.js";
import { readTeacher, teacherFolder } from "./teacher.js";
import { compareTinyAutoencoders } from "./tiny-vae/compare.js";
import { reportTinyUNet } from "./tiny-unet/report-tiny-unet.js";
import { trainTeacher } from "./train-teacher.js";
import { openWorkFolder } from "../../work-folder.js";

const usage = `npm run recipe:emoji -- COMMAND [options]

teacher   train the autoencoder and the multi-step teacher, which the others distil
  --autoencoder-steps N   default 2000
  --teacher-steps N       default 6000
  --decoder-steps N       default 1500
  --work FOLDER           checkpoints and logs (default recipes/emoji/work)
  --output FOLDER         the models (default recipes/emoji/teacher)

student   make a one-step student of the shipped tiny U-Net: warm-up and segmented score distillation; and its encoder
  --pairs N               noise-image pairs, default ${studentBudget.pairs}
  --decoder-steps N       of the tiny decoder by distances, default ${studentBudget.decoderSteps}
  --gan-steps N           of the tiny decoder with the GAN, default ${studentBudget.ganSteps}
  --encoder-steps N       of the tiny encoder, for image-to-image, default ${studentBudget.encoderSteps}
  --warmup-steps N        default ${studentBudget.warmupSteps}
  --score-steps N         default ${studentBudget.scoreSteps}
  --prompt TEXT           draw this prompt as well; may be repeated
  --output FOLDER         default student
  --restart               forget an earlier run in that folder

ablation  train the student in several ways and judge its pictures beside the teacher's (90 minutes)
  --pairs N               noise-image pairs, default ${ablationBudget.pairs}
  --warmup-steps N        default ${ablationBudget.warmupSteps}
  --score-steps N         default ${ablationBudget.scoreSteps}
  --dmd2-steps N          default ${ablationBudget.dmd2Steps}
  --texture-steps N       default ${ablationBudget.textureSteps}
  --pictures N            of each model, default 400
  --output FOLDER         default ablation
  --restart               forget an earlier run in that folder

extractors  warm students up by features of three kinds and by mean squared error, as the paper's Figure 6 does
  --pairs N               noise-image pairs, default ${extractorsBudget.pairs}
  --extractor-steps N     updates of a CNN and a vision transformer that know the set's pictures, default ${extractorsBudget.extractorSteps}
  --warmup-steps N        of each student, default ${extractorsBudget.warmupSteps}
  --captions none         let the noise decide everything; default given
  --pictures N            of each student that are judged, default 256
  --output FOLDER         default extractors
  --restart               forget an earlier run in that folder

tiny-unet distil the teacher into the tiny U-Net by Equation 8, whole and with each part left out (about 75 minutes)
  --steps N               updates of the tiny U-Net, default 10000
  --ablation-steps N      updates in each distillation that is compared, default 300
  --pairs N               samples of the teacher, default 4096
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

All take --seed N (default 1), and go on where they were interrupted, and
  --gpu                   compute on the GPU in float32, by the package webgpu: training, sampling, judging, and the times in
                          tables; default: on the processor, which draws the data set's pictures in any case`;

await runProgram(async (signal) => {
  const [command = "", ...args] = process.argv.slice(2);
  switch (command) {
    case "teacher":
      return teacher(args, signal);
    case "student":
      return student(args, signal);
    case "ablation":
      return ablation(args, signal);
    case "extractors":
      return extractors(args, signal);
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
      gpu: { type: "boolean", default: false },
      work: { type: "string", default: fileURLToPath(new URL("../work", import.meta.url)) },
      output: { type: "string", default: teacherFolder },
    },
  });
  const backend = await openBackend(values);
  const bars = progressBars();
  await trainTeacher({
    backend,
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
  const { numbers, lists, run } = readRunOptions(
    args,
    "student",
    {
      pairs: studentBudget.pairs,
      "decoder-steps": studentBudget.decoderSteps,
      "gan-steps": studentBudget.ganSteps,
      "encoder-steps": studentBudget.encoderSteps,
      "warmup-steps": studentBudget.warmupSteps,
      "score-steps": studentBudget.scoreSteps,
    },
    { prompt: [] },
  );
  await distilAndReport({
    ...run,
    tiny: await readTinyUNet(),
    budget: {
      ...studentBudget,
      pairs: numbers.pairs,
      decoderSteps: numbers["decoder-steps"],
      ganSteps: numbers["gan-steps"],
      encoderSteps: numbers["encoder-steps"],
      warmupSteps: numbers["warmup-steps"],
      scoreSteps: numbers["score-steps"],
    },
    prompts: lists.prompt,
    signal,
  });
}

async function ablation(args: string[], signal: AbortSignal): Promise<void> {
  const { numbers, run } = readRunOptions(args, "ablation", {
    pairs: ablationBudget.pairs,
    "warmup-steps": ablationBudget.warmupSteps,
    "score-steps": ablationBudget.scoreSteps,
    "dmd2-steps": ablationBudget.dmd2Steps,
    "texture-steps": ablationBudget.textureSteps,
    pictures: 400,
  });
  await reportAblation({
    ...run,
    budget: {
      ...ablationBudget,
      pairs: numbers.pairs,
      warmupSteps: numbers["warmup-steps"],
      scoreSteps: numbers["score-steps"],
      dmd2Steps: numbers["dmd2-steps"],
      textureSteps: numbers["texture-steps"],
    },
    pictures: numbers.pictures,
    signal,
  });
}

async function extractors(args: string[], signal: AbortSignal): Promise<void> {
  const { numbers, lists, run } = readRunOptions(
    args,
    "extractors",
    {
      pairs: extractorsBudget.pairs,
      "extractor-steps": extractorsBudget.extractorSteps,
      "warmup-steps": extractorsBudget.warmupSteps,
      pictures: 256,
    },
    { captions: ["given"] },
  );
  const { pairs, "extractor-steps": extractorSteps, "warmup-steps": warmupSteps, pictures } = numbers;
  const [captions = "given"] = lists.captions;
  await reportExtractors({
    ...run,
    budget: { pairs, extractorSteps, warmupSteps },
    pictures,
    hasCaptions: oneOf("--captions", ["given", "none"], captions) === "given",
    signal,
  });
}

async function tinyUNet(args: string[], signal: AbortSignal): Promise<void> {
  const { numbers, run } = readRunOptions(args, "tiny-unet", {
    steps: 10000,
    "ablation-steps": 300,
    pairs: 4096,
    pictures: 256,
  });
  const { steps, "ablation-steps": ablationSteps, pairs, pictures } = numbers;
  await reportTinyUNet({ ...run, steps, ablationSteps, pairs, pictures, signal });
}

async function controlNet(args: string[], signal: AbortSignal): Promise<void> {
  const { numbers, lists, run } = readRunOptions(
    args,
    "controlnet",
    {
      steps: controlNetBudget.steps,
      "distillation-steps": controlNetBudget.distillationSteps,
      "warmup-steps": controlNetBudget.warmupSteps,
      "score-steps": controlNetBudget.scoreSteps,
      pictures: 48,
    },
    { condition: conditionKinds },
  );
  await reportControlNet({
    ...run,
    budget: {
      steps: numbers.steps,
      distillationSteps: numbers["distillation-steps"],
      warmupSteps: numbers["warmup-steps"],
      scoreSteps: numbers["score-steps"],
    },
    kinds: lists.condition.map((kind) => oneOf("--condition", conditionKinds, kind)),
    pictures: numbers.pictures,
    signal,
  });
}

function oneOf<Choice extends string>(option: string, choices: readonly Choice[], text: string): Choice {
  const choice = choices.find((known) => known === text);
  if (choice !== undefined) return choice;
  throw new InvalidArgumentError(`${option} must be ${choices.join(" or ")}, got "${text}".`);
}

async function lora(args: string[], signal: AbortSignal): Promise<void> {
  const { numbers, lists, run } = readRunOptions(
    args,
    "lora",
    {
      steps: loraBudget.steps,
      "distillation-steps": loraBudget.distillationSteps,
      pairs: loraBudget.pairs,
      pictures: 48,
    },
    { style: heldOutStyleNames },
  );
  const { steps, "distillation-steps": distillationSteps, pairs, pictures } = numbers;
  await reportLora({
    ...run,
    styles: lists.style.map((style) => oneOf("--style", heldOutStyleNames, style)),
    budget: { steps, distillationSteps, pairs },
    pictures,
    signal,
  });
}

async function judge(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      steps: { type: "string", default: "1500" },
      seed: { type: "string", default: "1" },
      gpu: { type: "boolean", default: false },
      work: { type: "string", default: fileURLToPath(new URL("../work/judge", import.meta.url)) },
      output: { type: "string", default: captionModelFile },
    },
  });
  const backend = await openBackend(values);
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
  const { numbers, run } = readRunOptions(args, "tiny-vae", { steps: 8000, pictures: 2048 });
  const { seed, output: outputFolder } = run;
  const backend = await openBackend(run);
  const workFolder = await openWorkFolder(run);
  const { autoencoder } = await readTeacher();
  const bars = progressBars();
  const tables = await compareTinyAutoencoders({
    backend,
    autoencoder,
    dataset: await loadEmojiDataset(),
    judge: await loadJudge(backend),
    evaluation: (await loadEvaluationSet()).pictures(seed),
    reference: await referenceFeatures(backend, join(workFolder, "reference.safetensors")),
    seed,
    ...numbers,
    workFolder,
    outputFolder,
    signal,
    onProgress: bars.update,
  }).finally(bars.stop);
  console.log(`\n${tables}\nTables and pictures are in ${outputFolder}.`);
}
