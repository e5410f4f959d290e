import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { constantSchedule, type HostParams, type HostTensor } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { distilDmd2, finetuneTexture } from "./adversarial-stages.js";
import { loadEmojiDataset } from "./dataset.js";
import { decodeLarge, decodeTiny } from "./decode.js";
import {
  distilDecoder,
  distilScores,
  samplePairs,
  studentBudget,
  studentGenerator,
  studentPlan,
  teacherSteps,
  warmUp,
  type DistillationBudget,
  type DistillationOptions,
  type Pairs,
} from "./distil.js";
import { evaluatePictures, loadEvaluationSet, referenceFeatures, type Evaluation } from "./evaluation/evaluate.js";
import { markdownTable } from "./markdown-table.js";
import { progressBars } from "./progress-bars.js";
import { quickstartPrompts } from "./quickstart-subset.js";
import { measureModels, pictureGrid, type ModelFigures } from "./report.js";
import { firstRows, mapBatches } from "../../rows.js";
import { readTinyUNet } from "./shipped.js";
import { readTeacher } from "./teacher.js";
import { pickPrompts } from "./evaluation/pick-prompts.js";
import { openWorkFolder, type WorkFolderOptions } from "./work-folder.js";

/** How much of everything the ablation does. */
export interface AblationBudget extends DistillationBudget {
  /** Updates of the student by DMD2, each of which takes five of the online DM: about the time of `scoreSteps`. */
  readonly dmd2Steps: number;
  readonly textureSteps: number;
}

/** About an hour on two cores. */
export const ablationBudget: AblationBudget = { ...studentBudget, dmd2Steps: 80, textureSteps: 150 };

export interface AblationOptions extends WorkFolderOptions {
  readonly budget: AblationBudget;
  /** Pictures of each model that are judged. */
  readonly pictures: number;
  readonly signal: AbortSignal;
}

/** What the table tells of a model. */
interface AblationRow {
  readonly label: string;
  readonly figures: ModelFigures;
  /** One for each prompt, [prompts, 3, 64, 64]. */
  readonly images: HostTensor;
  readonly evaluation: Evaluation;
  /** Fréchet distance of the same latents' pictures by the teacher's decoder: what the U-Net alone is worth. */
  readonly largeDecoderFrechet: number;
}

/**
 * What each part of the method is worth: students trained in several ways from the same noise-image pairs, the shipped tiny
 * U-Net and one warm-up, each judged by its pictures of the same prompts from the same noise. Leaves a table and a grid of pictures.
 */
export async function reportAblation({ output, restart, pictures, ...given }: AblationOptions): Promise<void> {
  const { seed, budget } = given;
  const workFolder = await openWorkFolder({ output, seed, restart });
  const backend = onnxBackend({ ort });
  const [dataset, teacher] = [await loadEmojiDataset(), await readTeacher()];
  const bars = progressBars();
  const options = { ...given, backend, dataset, teacher, workFolder, onProgress: bars.update };

  const pairs = await samplePairs(options, { captions: dataset.batch(seed, 0, budget.pairs).captions });
  const decoder = await distilDecoder(options, pairs);
  const tiny = await readTinyUNet();
  const students = await trainStudents(options, budget, pairs, tiny);

  const prompts = pickPrompts((await loadEvaluationSet()).prompts, pictures, seed);
  const drawn = await samplePairs(options, {
    name: "evaluation",
    captions: prompts,
    steps: teacherSteps,
    seed: `evaluation ${seed}`,
  });
  bars.stop();
  const { config } = studentPlan(teacher);
  const [teacherFigures, studentFigures] = await measureModels(backend, teacher, {
    unet: { config, params: tiny },
    decoder,
  });
  const reference = await referenceFeatures(backend, join(workFolder, "reference.safetensors"));
  const judge = (images: HostTensor): Promise<Evaluation> => evaluatePictures(backend, images, reference, prompts);
  const large = (latents: HostTensor): Promise<HostTensor> => decodeLarge(backend, teacher.autoencoder, latents);
  const small = (latents: HostTensor): Promise<HostTensor> => decodeTiny(backend, decoder, latents);

  const images = await large(drawn.target);
  const evaluation = await judge(images);
  const { frechet: largeDecoderFrechet } = evaluation;
  const rows: AblationRow[] = [
    {
      label: `teacher, ${teacherSteps} steps with guidance`,
      figures: teacherFigures!,
      images,
      evaluation,
      largeDecoderFrechet,
    },
  ];
  for (const [label, params] of Object.entries(students)) {
    const { noise, context } = drawn;
    const { latents } = await mapBatches(backend, studentGenerator(config), params, { noise, context }, 32);
    const made = await small(latents);
    rows.push({
      label,
      figures: studentFigures!,
      images: made,
      evaluation: await judge(made),
      largeDecoderFrechet: (await judge(await large(latents))).frechet,
    });
  }
  const tinyDecoder = (await judge(await small(drawn.target))).frechet;

  const file = (name: string): string => join(output, name);
  const shown = quickstartPrompts.length; // they come first
  const grid = rows.map((row) => ({ label: row.label, images: firstRows(row.images, shown) }));
  await writeFile(file("grid.png"), await pictureGrid(dataset, prompts.slice(0, shown), grid));
  const table = `${ablationTable(rows)}\nThe teacher's latents by the tiny decoder: ${tinyDecoder.toFixed(2)}.\n`;
  await writeFile(file("table.md"), table);
  console.log(`\n${table}\nPictures: ${file("grid.png")}\nTable:    ${file("table.md")}`);
}

/**
 * Weights of the student's U-Net by each method, in the table's order. A warm-up alone goes on for as many updates as a
 * warm-up with score distillation after it.
 */
async function trainStudents<D>(
  options: DistillationOptions<D>,
  budget: AblationBudget,
  pairs: Pairs,
  tiny: HostParams,
): Promise<Record<string, HostParams>> {
  const warm = await warmUp(options, pairs, tiny);
  const long = { ...options, budget: { ...budget, warmupSteps: budget.warmupSteps + budget.scoreSteps } };
  const blurred = { name: "mean squared error", weights: { features: 0, mse: 1 } };
  const unsegmented = { name: "Diff-Instruct", alpha: constantSchedule(1), lambdaFM: constantSchedule(0) };
  const scored = await distilScores(options, pairs, warm);
  return {
    "mean squared error": await warmUp(long, pairs, tiny, blurred),
    "SSIM feature matching": await warmUp(long, pairs, tiny, { name: "feature matching" }),
    "Diff-Instruct, without segments": await distilScores(options, pairs, warm, unsegmented),
    SSD: scored,
    "SSD, texture finetuned": (await finetuneTexture(options, pairs, scored, budget.textureSteps)).params,
    DMD2: await distilDmd2(options, warm, budget.dmd2Steps),
  };
}

/** One line for each model, the teacher first, whose distance those by the large decoder are divided by. */
export function ablationTable(rows: readonly Omit<AblationRow, "images">[]): string {
  const best = rows[0]?.largeDecoderFrechet ?? NaN;
  const share = (value: number): string => `${(100 * value).toFixed(1)}%`;
  const cells = rows.map(({ label, figures, evaluation, largeDecoderFrechet: large }) => {
    const { frechet, captionAgreement, precision, recall } = evaluation;
    return [
      label,
      `${((figures.unetParameters + figures.decoderParameters) / 1e6).toFixed(2)} M`,
      String(figures.functionEvaluations),
      figures.msPerImage.toFixed(1),
      frechet.toFixed(2),
      large.toFixed(2),
      (large / best).toFixed(2),
      share(captionAgreement),
      share(precision),
      share(recall),
    ];
  });
  const head = [
    "model",
    "U-Net and decoder",
    "evaluations",
    "ms per image",
    "Fréchet distance",
    "by the large decoder",
    "to the teacher's",
    "caption agreement",
    "precision",
    "recall",
  ];
  return markdownTable(head, cells);
}
