import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { constantSchedule, type HostParams, type HostTensor } from "@sdxs/tensor";
import { distilDmd2, finetuneTexture } from "./adversarial-stages.js";
import { openBackend, type BackendOptions } from "../../backend.js";
import { loadEmojiDataset } from "./dataset.js";
import { decodeLarge, decodeTiny } from "./decode.js";
import {
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
import { pictureSheet } from "../../picture-sheet.js";
import { progressBars } from "../../progress-bars.js";
import { quickstartPrompts } from "./quickstart-subset.js";
import { measureModels, pictureGrid, type ModelFigures } from "./report.js";
import { firstRows, mapBatches } from "../../rows.js";
import { readTinyUNet } from "./shipped.js";
import { readTeacher } from "./teacher.js";
import { distilDecoder } from "./tiny-decoder.js";
import { pickPrompts } from "./evaluation/pick-prompts.js";
import { openWorkFolder, type WorkFolderOptions } from "../../work-folder.js";

/** How much of everything the ablation does. */
export interface AblationBudget extends DistillationBudget {
  /** Updates of the student by DMD2, each of which takes five of the online DM: half the time of `scoreSteps`. */
  readonly dmd2Steps: number;
  readonly textureSteps: number;
}

/** About an hour and a half on two cores. */
export const ablationBudget: AblationBudget = { ...studentBudget, dmd2Steps: 80, textureSteps: 150 };

export interface AblationOptions extends WorkFolderOptions, BackendOptions {
  readonly budget: AblationBudget;
  /** Pictures of each model that are judged. */
  readonly pictures: number;
  readonly signal: AbortSignal;
}

/** A model's pictures and what they are worth. */
interface JudgedPictures {
  readonly label: string;
  /** One for each prompt, [prompts, 3, 64, 64]. */
  readonly images: HostTensor;
  readonly evaluation: Evaluation;
}

/** What the table tells of a model. */
interface AblationRow extends JudgedPictures {
  readonly figures: ModelFigures;
  /** Fréchet distance of the same latents' pictures by the teacher's decoder: what the U-Net alone is worth. */
  readonly largeDecoderFrechet: number;
}

/** Prompts, and the noise that every model begins with beside the teacher's sample of it. */
interface DrawnPrompts extends Pairs {
  readonly prompts: readonly string[];
}

/**
 * What each part of the method is worth: students trained in several ways from the same noise-image pairs, the shipped tiny
 * U-Net and one warm-up, each judged by its pictures of the same prompts from the same noise, and again by those of prompts
 * that leave the style to the noise. Leaves tables and grids of pictures.
 */
export async function reportAblation({ output, restart, pictures, ...given }: AblationOptions): Promise<void> {
  const { seed, budget } = given;
  const backend = await openBackend(given);
  const workFolder = await openWorkFolder({ output, seed, restart });
  const [dataset, teacher] = [await loadEmojiDataset(), await readTeacher()];
  const bars = progressBars();
  const options = { ...given, backend, dataset, teacher, workFolder, onProgress: bars.update };

  const pairs = await samplePairs(options, { captions: dataset.batch(seed, 0, budget.pairs).captions });
  const decoder = await distilDecoder(options, pairs.target);
  const tiny = await readTinyUNet();
  const students = await trainStudents(options, budget, pairs, tiny);

  const { prompts: all, openPrompts } = await loadEvaluationSet();
  const draw = async (name: string, prompts: readonly string[]): Promise<DrawnPrompts> => ({
    prompts,
    ...(await samplePairs(options, { name, captions: prompts, steps: teacherSteps, seed: `${name} ${seed}` })),
  });
  const shownOpen = quickstartPrompts.map(withoutStyle);
  const named = await draw("evaluation", pickPrompts(all, pictures, seed));
  const open = await draw("evaluation, style left open", pickPrompts(openPrompts, pictures, seed, shownOpen));
  bars.stop();
  const { config } = studentPlan(teacher);
  const [teacherFigures, , studentFigures] = await measureModels(backend, teacher, {
    unet: { config, params: tiny },
    decoder,
  });
  const reference = await referenceFeatures(backend, join(workFolder, "reference.safetensors"));
  const judge = (images: HostTensor, { prompts }: DrawnPrompts): Promise<Evaluation> =>
    evaluatePictures(backend, images, reference, prompts);
  const large = (latents: HostTensor): Promise<HostTensor> => decodeLarge(backend, teacher.autoencoder, latents);
  const small = (latents: HostTensor): Promise<HostTensor> => decodeTiny(backend, decoder, latents);

  const label = `teacher, ${teacherSteps} steps with guidance`;
  const images = await large(named.target);
  const evaluation = await judge(images, named);
  const rows: AblationRow[] = [
    { label, figures: teacherFigures!, images, evaluation, largeDecoderFrechet: evaluation.frechet },
  ];
  const openImages = await large(open.target);
  const openRows: JudgedPictures[] = [{ label, images: openImages, evaluation: await judge(openImages, open) }];
  for (const [label, params] of Object.entries(students)) {
    const sample = async ({ noise, context }: DrawnPrompts): Promise<HostTensor> =>
      (await mapBatches(backend, studentGenerator(config), params, { noise, context }, 32)).latents;
    const latents = await sample(named);
    const made = await small(latents);
    rows.push({
      label,
      figures: studentFigures!,
      images: made,
      evaluation: await judge(made, named),
      largeDecoderFrechet: (await judge(await large(latents), named)).frechet,
    });
    const openMade = await large(await sample(open));
    openRows.push({ label, images: openMade, evaluation: await judge(openMade, open) });
  }
  const tinyDecoder = (await judge(await small(named.target), named)).frechet;

  const file = (name: string): string => join(output, name);
  const shown = (judged: readonly JudgedPictures[]) =>
    judged.map(({ label, images }) => ({ label, images: firstRows(images, quickstartPrompts.length) })); // they come first
  await writeFile(file("grid.png"), await pictureGrid(dataset, quickstartPrompts, shown(rows)));
  const columns = shown(openRows).map(({ label, images }) => [label, images] as const);
  await writeFile(file("grid-style-open.png"), await pictureSheet(shownOpen, columns));
  const table =
    `${ablationTable(rows)}\nThe teacher's latents by the tiny decoder: ${tinyDecoder.toFixed(2)}.\n\n` +
    `By prompts that leave the style to the noise, all by the large decoder:\n\n${openTable(openRows)}`;
  await writeFile(file("table.md"), table);
  console.log(
    `\n${table}\nPictures: ${file("grid.png")}, ${file("grid-style-open.png")}\nTable:    ${file("table.md")}`,
  );
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

/** "a red apple, flat style, on a blue background" to "a red apple, on a blue background". */
const withoutStyle = (prompt: string): string => prompt.replace(/, [^,]+ style/, "");

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

/** One line for each model, the teacher first: pictures for prompts that leave their style open. */
export function openTable(rows: readonly Omit<JudgedPictures, "images">[]): string {
  const best = rows[0]?.evaluation.frechet ?? NaN;
  const share = (value: number): string => `${(100 * value).toFixed(1)}%`;
  const cells = rows.map(({ label, evaluation: { frechet, precision, recall } }) => [
    label,
    frechet.toFixed(2),
    (frechet / best).toFixed(2),
    share(precision),
    share(recall),
  ]);
  return markdownTable(["model", "Fréchet distance", "to the teacher's", "precision", "recall"], cells);
}
