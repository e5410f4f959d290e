import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { FeatureExtractor } from "@sdxs/one-step-trainer";
import { prefixed, type HostTensor } from "@sdxs/tensor";
import { decodeTiny } from "@sdxs/tiny-vae";
import { firstRows, mapBatches } from "../../../rows.js";
import { openBackend, type BackendOptions } from "../../../backend.js";
import { loadEmojiDataset } from "../dataset.js";
import { decodeLarge } from "../decode.js";
import {
  samplePairs,
  studentBudget,
  studentGenerator,
  studentPlan,
  teacherSteps,
  warmUp,
  type WarmupVariant,
} from "../distil.js";
import { evaluatePictures, loadEvaluationSet, referenceFeatures } from "../evaluation/evaluate.js";
import { pickPrompts } from "../evaluation/pick-prompts.js";
import { markdownTable } from "../markdown-table.js";
import { tinyDecoderConfig } from "../models.js";
import { pictureSheet } from "../../../picture-sheet.js";
import { progressBars } from "../../../progress-bars.js";
import { quickstartPrompts } from "../quickstart-subset.js";
import { pictureGrid, type Pictures } from "../report.js";
import { readStudent, readTinyUNet } from "../shipped.js";
import { readTeacher } from "../teacher.js";
import { openWorkFolder, type WorkFolderOptions } from "../../../work-folder.js";
import { pictureNetworks, trainPictureNetwork, type PictureNetwork } from "./picture-networks.js";

export interface ExtractorsBudget {
  /** Noise-image pairs. */
  readonly pairs: number;
  /** Updates of each network that extracts features of pictures. */
  readonly extractorSteps: number;
  /** Updates of each student. */
  readonly warmupSteps: number;
}

/** A quarter of an hour on two cores. */
export const extractorsBudget: ExtractorsBudget = { pairs: 1024, extractorSteps: 500, warmupSteps: 400 };

export interface ExtractorsOptions extends WorkFolderOptions, BackendOptions {
  readonly budget: ExtractorsBudget;
  /** Pictures of each student that are judged. */
  readonly pictures: number;
  /** Whether teacher and students draw by captions; otherwise noise decides everything. */
  readonly hasCaptions: boolean;
  readonly signal: AbortSignal;
}

/**
 * Figure 6 of the paper: one-step students by mean squared error, and by feature matching in three kinds of features.
 * Leaves a table and a grid of pictures.
 */
export async function reportExtractors(options: ExtractorsOptions): Promise<void> {
  const { seed, output, budget, hasCaptions, signal } = options;
  const backend = await openBackend(options);
  const workFolder = await openWorkFolder(options);
  const [dataset, teacher] = [await loadEmojiDataset(), await readTeacher()];
  const [tiny, { decoder }] = [await readTinyUNet(), await readStudent()];
  const bars = progressBars();
  const stage = { backend, dataset, teacher, seed, workFolder, signal, onProgress: bars.update };
  const given = (captions: readonly string[]) => (hasCaptions ? captions : captions.map(() => ""));
  const pairs = await samplePairs(stage, { captions: given(dataset.batch(seed, 0, budget.pairs).captions) });

  const students: Record<string, WarmupVariant> = {
    "mean squared error": { name: "mean squared error", weights: { features: 0, mse: 1 } },
    "the diffusion model's encoder": { name: "diffusion model's encoder" },
  };
  for (const name of Object.keys(pictureNetworks) as PictureNetwork[]) {
    const network = await trainPictureNetwork(stage, dataset, name, budget.extractorSteps);
    students[name] = {
      name,
      features: {
        extractor: ofPictures(name),
        params: { ...prefixed(network, "network."), ...prefixed(decoder, "decoder.") },
      },
    };
  }

  const prompts = pickPrompts((await loadEvaluationSet()).prompts, options.pictures, seed);
  const reference = await referenceFeatures(backend, join(workFolder, "reference.safetensors"));
  const sampling = { name: "evaluation", steps: teacherSteps, seed: `evaluation ${seed}` };
  const { noise, context, target } = await samplePairs(stage, { ...sampling, captions: given(prompts) });
  const rows: string[][] = [];
  const shown: Pictures[] = [];
  const judge = async (label: string, latents: HostTensor): Promise<void> => {
    const images = await decodeLarge(backend, teacher.autoencoder, latents);
    const { frechet, captionAgreement } = await evaluatePictures(backend, images, reference, prompts);
    rows.push([label, frechet.toFixed(2), hasCaptions ? `${(100 * captionAgreement).toFixed(1)}%` : "-"]);
    shown.push({ label, images: firstRows(images, quickstartPrompts.length) });
  };
  await judge(`teacher, ${teacherSteps} steps`, target);
  for (const [label, variant] of Object.entries(students)) {
    const distillation = { ...stage, budget: { ...studentBudget, warmupSteps: budget.warmupSteps } };
    const params = await warmUp(distillation, pairs, tiny, variant);
    const generator = studentGenerator(studentPlan(teacher).config);
    await judge(label, (await mapBatches(backend, generator, params, { noise, context }, 32)).latents);
  }
  bars.stop();

  const file = (name: string): string => join(output, name);
  const shownPrompts = prompts.slice(0, quickstartPrompts.length);
  const grid = hasCaptions
    ? pictureGrid(dataset, shownPrompts, shown)
    : pictureSheet(
        given(shownPrompts),
        shown.map(({ label, images }) => [label, images] as const),
      );
  await writeFile(file("grid.png"), await grid);
  const table = markdownTable(["student by", "Fréchet distance", "caption agreement"], rows);
  await writeFile(file("table.md"), table);
  console.log(`\n${table}\nPictures: ${file("grid.png")}\nTable:    ${file("table.md")}`);
}

/** Features of what the tiny decoder makes of latents. */
function ofPictures(name: PictureNetwork): FeatureExtractor {
  return (ops, p, { sample }) =>
    pictureNetworks[name](ops, p.at("network"), decodeTiny(ops, p.at("decoder"), tinyDecoderConfig, sample));
}
