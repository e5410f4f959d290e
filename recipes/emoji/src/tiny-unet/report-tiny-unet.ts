import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { HostTensor } from "@sdxs/tensor";
import { saveModel } from "@sdxs/runtime/node";
import { totalCost, unetCosts } from "@sdxs/tiny-unet";
import { firstRows } from "../../../rows.js";
import { openBackend, type BackendOptions } from "../../../backend.js";
import { loadEmojiDataset } from "../dataset.js";
import { samplePairs, teacherSteps } from "../distil.js";
import { evaluatePictures, loadEvaluationSet, referenceFeatures, type Evaluation } from "../evaluation/evaluate.js";
import { latentSize } from "../models.js";
import { markdownTable } from "../markdown-table.js";
import { progressBars } from "../../../progress-bars.js";
import { quickstartPrompts } from "../quickstart-subset.js";
import { pictureGrid } from "../report.js";
import { readTeacher, type Teacher } from "../teacher.js";
import { openWorkFolder, type WorkFolderOptions } from "../../../work-folder.js";
import { pickPrompts } from "../evaluation/pick-prompts.js";
import {
  distilTinyUNet,
  distillationLosses,
  distillations,
  drawWithGuidance,
  type Distillation,
  type DistillationLosses,
} from "./distillations.js";

export interface TinyUNetOptions extends WorkFolderOptions, BackendOptions {
  /** Updates of the tiny U-Net. */
  readonly steps: number;
  /** Updates in each of the distillations that are compared. */
  readonly ablationSteps: number;
  /** Samples of the teacher that all learn from. */
  readonly pairs: number;
  /** Pictures of each model that are judged. */
  readonly pictures: number;
  readonly signal: AbortSignal;
}

/** Distils the shipped teacher into the tiny U-Net, and again with one part switched off; leaves weights, table, pictures. */
export async function reportTinyUNet(options: TinyUNetOptions): Promise<void> {
  const { steps, ablationSteps, seed, output, signal } = options;
  const backend = await openBackend(options);
  const workFolder = await openWorkFolder(options);
  const dataset = await loadEmojiDataset();
  const teacher = await readTeacher();
  const bars = progressBars();
  const stage = { backend, teacher, seed, workFolder, signal, onProgress: bars.update };

  const prompts = pickPrompts((await loadEvaluationSet()).prompts, options.pictures, seed);
  const reference = await referenceFeatures(backend, join(workFolder, "reference.safetensors"));
  const judge = async (name: string, model: Teacher): Promise<JudgedModel> => {
    const images = await drawWithGuidance(stage, name, model, prompts);
    return { name, unet: model.unet, images, evaluation: await evaluatePictures(backend, images, reference, prompts) };
  };
  const original = await judge("teacher", teacher);
  const pairs = await samplePairs(stage, { captions: dataset.batch(seed, 0, options.pairs).captions });
  const distil = async (distillation: Distillation, updates: number): Promise<JudgedModel> => {
    const model = await distilTinyUNet(stage, pairs, distillation, updates);
    const losses = await distillationLosses(stage, pairs, model.unet.params);
    return { ...(await judge(`${distillation}, ${updates} steps`, model)), losses };
  };
  const tiny = await distil("Equation 8", steps);
  const compared: JudgedModel[] = [];
  for (const name of Object.keys(distillations) as Distillation[]) compared.push(await distil(name, ablationSteps));
  bars.stop();

  const file = (name: string): string => join(output, name);
  await saveModel(file("unet"), { className: "UNet2DConditionModel", ...tiny.unet }, { dtype: "F16" });
  const shown = prompts.slice(0, quickstartPrompts.length);
  const pictures = [original, tiny].map(({ name, images }) => ({
    label: `${name}, ${teacherSteps} steps with guidance`,
    images: firstRows(images, shown.length),
  }));
  await writeFile(file("grid.png"), await pictureGrid(dataset, shown, pictures));
  const table = modelTable([original, tiny, ...compared]);
  await writeFile(file("table.md"), table);
  console.log(`\n${table}\nPictures: ${file("grid.png")}\nTable:    ${file("table.md")}`);
}

interface JudgedModel {
  readonly name: string;
  readonly unet: Teacher["unet"];
  /** One for each prompt of the evaluation, [prompts, 3, 64, 64]. */
  readonly images: HostTensor;
  readonly evaluation: Evaluation;
  /** Of the distilled ones, after the last step. */
  readonly losses?: DistillationLosses;
}

/** One line each, the teacher first: size, losses after the last step, and what its pictures are worth. */
function modelTable(models: readonly JudgedModel[]): string {
  const best = models[0]?.evaluation.frechet ?? NaN;
  const rows = models.map(({ name, unet, evaluation: { frechet, captionAgreement }, losses }) => {
    const { parameters } = totalCost(unetCosts(unet.config, { height: latentSize, width: latentSize }));
    const terms = losses ? [losses.outputLoss, losses.featureLoss].map((loss) => loss.toFixed(4)) : ["", ""];
    return [
      name,
      `${(parameters / 1e6).toFixed(2)} M`,
      ...terms,
      frechet.toFixed(2),
      (frechet / best).toFixed(2),
      `${(100 * captionAgreement).toFixed(1)}%`,
    ];
  });
  const head = [
    "U-Net",
    "parameters",
    "output loss",
    "feature loss",
    "Fréchet distance",
    "to the teacher's",
    "caption agreement",
  ];
  return markdownTable(head, rows);
}
