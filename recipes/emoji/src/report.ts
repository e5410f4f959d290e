import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HostTensor, random, type Backend } from "@sdxs/tensor";
import { unetParameters } from "@sdxs/tiny-unet";
import { klDecoderParameters, tinyDecoderParameters } from "@sdxs/tiny-vae";
import { lossCurveSvg, takeRows, type CurveSeries } from "@sdxs/training";
import { csvLog } from "@sdxs/training/node";
import sharp from "sharp";
import { composeCaption } from "./captions.js";
import { contactSheet, textOutliner } from "../../contact-sheet.js";
import type { EmojiDataset } from "./dataset.js";
import {
  encodePrompts,
  fewTeacherSteps,
  guidanceScale,
  studentGenerator,
  teacherSampler,
  teacherSteps,
  trainingStages,
  type Student,
} from "./distil.js";
import { decodeLarge, decodeTiny } from "./decode.js";
import { tinyDecoderConfig } from "./models.js";
import { imageDecoder } from "../../diffusion-model.js";
import { latentSpec, tinyImageDecoder } from "./networks.js";
import { concatRows, mapBatches, takeOutputs } from "../../rows.js";
import { pixelQuality } from "../../pixel-quality.js";
import type { Teacher } from "./teacher.js";

/** What one model makes of prompts. */
export interface Pictures {
  readonly label: string;
  /** [prompts, 3, 64, 64] */
  readonly images: HostTensor;
}

/** What the teacher and students make of prompts, from the same noise. */
export async function drawPictures<D>(
  backend: Backend<D>,
  teacher: Teacher,
  students: readonly { readonly label: string; readonly student: Student }[],
  prompts: readonly string[],
  seed: number,
): Promise<Pictures[]> {
  const batch = prompts.length;
  const context = await encodePrompts(backend, teacher, prompts);
  const sampler = await teacherSampler(backend, teacher, { steps: teacherSteps, batch, seed: `pictures ${seed}` });
  const { noise, target } = await sampler.sample(context, 0);
  await sampler.dispose();
  const images = await decodeLarge(backend, teacher.autoencoder, target, batch);
  const pictures: Pictures[] = [{ label: `teacher, ${teacherSteps} steps with guidance`, images }];
  for (const { label, student } of students) {
    const { unet, decoder } = student;
    const { latents } = await mapBatches(
      backend,
      studentGenerator(unet.config),
      unet.params,
      { noise, context },
      batch,
    );
    pictures.push({ label, images: await decodeTiny(backend, decoder, latents, batch) });
  }
  return pictures;
}

/** The PNG grid: for each prompt the artist's picture, where there is one, and those of the models. */
export async function pictureGrid(
  dataset: EmojiDataset,
  prompts: readonly string[],
  pictures: readonly Pictures[],
): Promise<Buffer> {
  const images: HostTensor[] = [];
  const labels: string[] = [];
  prompts.forEach((prompt, row) => {
    images.push(originalPicture(dataset, prompt), ...pictures.map((made) => takeRows(made.images, [row])));
    labels.push(prompt, ...pictures.map(({ label }) => label));
  });
  // Two prompts side by side.
  return contactSheet(concatRows(images), labels, { columns: 2 * (1 + pictures.length) });
}

/** The drawing that a prompt describes to the letter; gray where there is none. */
function originalPicture(dataset: EmojiDataset, prompt: string): HostTensor {
  const size = dataset.imageSize;
  const combination = [...dataset.trainingCombinations, ...dataset.heldOutCombinations].find(
    ({ concept, style, colour }) => composeCaption({ subject: concept.subject, style, colour }) === prompt,
  );
  const image = combination ? dataset.render(combination) : new Float32Array(3 * size * size);
  return new HostTensor([1, 3, size, size], image);
}

/** Writes the losses of all trainings as one PNG: each relative to its first, so that they share an axis. */
export async function writeLossCurves(workFolder: string, path: string): Promise<void> {
  const series: CurveSeries[] = [];
  for (const name of trainingStages) {
    const rows = await csvLog(join(workFolder, name, "metrics.csv")).rows();
    if (rows.length === 0) continue; // a stage that the budget left out
    const first = rows[0]?.metrics["loss"] ?? 1;
    series.push({ name, values: rows.map(({ step, metrics }) => ({ step, value: (metrics["loss"] ?? NaN) / first })) });
  }
  const svg = lossCurveSvg(series, {
    title: "Distillation on the emoji set",
    valueLabel: "loss / first loss",
    logScale: true,
    label: await textOutliner(),
  });
  await writeFile(path, await sharp(Buffer.from(svg)).png().toBuffer());
}

/** One line of the table. */
export interface ModelFigures {
  readonly model: "teacher" | "student";
  /** Of the sampler. */
  readonly steps: number;
  /** Parameters of the U-Net and of the image decoder. */
  readonly unetParameters: number;
  readonly decoderParameters: number;
  /** Evaluations of the U-Net for one image; guidance takes two a step. */
  readonly functionEvaluations: number;
  /** Median from prompt embedding to pixels, one image at a time. */
  readonly msPerImage: number;
  /** How near its pictures are to those of the teacher in `teacherSteps`, PSNR in dB; of the teacher in fewer steps alone. */
  readonly psnr?: number;
}

/** Pictures that the teacher's speed is measured by. */
const TEACHER_RUNS = 5;

/** Measures the teacher in all and in few steps, and the student, on one prompt, image by image. */
export async function measureModels<D>(
  backend: Backend<D>,
  teacher: Teacher,
  student: Student,
): Promise<ModelFigures[]> {
  const context = await encodePrompts(backend, teacher, ["a red apple"]);
  const [, ...contextShape] = context.shape;
  const inputs = { noise: latentSpec(1), context: { shape: [1, ...contextShape] } };

  const large = await backend.compile(imageDecoder(teacher.autoencoder.config), {
    frozen: teacher.autoencoder.params,
    inputs: { latents: latentSpec(1) },
  });
  const inSteps = async (steps: number): Promise<{ readonly ms: number; readonly images: HostTensor }> => {
    const sampler = await teacherSampler(backend, teacher, { steps, batch: 1, seed: "figures" });
    const pictures: HostTensor[] = [];
    const ms = await medianMs(TEACHER_RUNS, async (run) => {
      const { target } = await sampler.sample(context, run); // the same noise for any number of steps
      const { images } = await takeOutputs(backend, await large.run({}, { latents: target }));
      pictures.push(images);
    });
    await sampler.dispose();
    return { ms, images: concatRows(pictures) };
  };
  const [all, few] = [await inSteps(teacherSteps), await inSteps(fewTeacherSteps)];
  await large.dispose();
  const { psnr } = await pixelQuality(backend, few.images, all.images);

  const generator = await backend.compile(studentGenerator(student.unet.config), {
    frozen: student.unet.params,
    inputs,
  });
  const small = await backend.compile(tinyImageDecoder(tinyDecoderConfig), {
    frozen: student.decoder,
    inputs: { latents: latentSpec(1) },
  });
  const noiseOf = random("figures");
  const studentMs = await medianMs(30, async (run) => {
    const { latents } = await generator.run({}, { noise: noiseOf.at(run).normal(latentSpec(1).shape), context });
    await takeOutputs(backend, await small.run({}, { latents }));
    backend.dispose(latents);
  });
  await generator.dispose();
  await small.dispose();

  const count = (specs: Readonly<Record<string, { readonly shape: readonly number[] }>>): number =>
    Object.values(specs).reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
  const teacherIn = (steps: number, msPerImage: number): ModelFigures => ({
    model: "teacher",
    steps,
    unetParameters: count(unetParameters(teacher.unet.config)),
    decoderParameters: count(klDecoderParameters(teacher.autoencoder.config)),
    functionEvaluations: (guidanceScale === 1 ? 1 : 2) * steps,
    msPerImage,
  });
  return [
    teacherIn(teacherSteps, all.ms),
    { ...teacherIn(fewTeacherSteps, few.ms), psnr },
    {
      model: "student",
      steps: 1,
      unetParameters: count(unetParameters(student.unet.config)),
      decoderParameters: count(tinyDecoderParameters(tinyDecoderConfig)),
      functionEvaluations: 1,
      msPerImage: studentMs,
    },
  ];
}

/** The figures as a Markdown table, and how much faster the student is than each teacher. */
export function figuresTable(figures: readonly ModelFigures[]): string {
  const rows = figures.map(
    ({ model, steps, unetParameters: unet, decoderParameters: decoder, functionEvaluations, msPerImage }) =>
      `| ${model}, ${steps} ${steps === 1 ? "step" : "steps"} | ${millions(unet)} | ${millions(decoder)} | ${functionEvaluations} | ${msPerImage.toFixed(1)} |`,
  );
  const student = figures.find(({ model }) => model === "student");
  const ratios = figures
    .filter(({ model }) => model === "teacher")
    .map(({ steps, msPerImage, psnr }) => {
      const ratio = (msPerImage / (student?.msPerImage ?? NaN)).toFixed(0);
      const near = psnr === undefined ? "" : `, which draws nearly the same (${psnr.toFixed(1)} dB)`;
      return `${ratio} times as fast as the teacher in ${steps} steps${near}`;
    });
  const speedUp = student === undefined || ratios.length === 0 ? "" : `\nThe student is ${ratios.join(", and ")}.\n`;
  return `| model | U-Net parameters | decoder parameters | function evaluations | ms per image |\n| --- | --- | --- | --- | --- |\n${rows.join("\n")}\n${speedUp}`;
}

const millions = (count: number): string => `${(count / 1e6).toFixed(2)} M`;

/** Median time of a call in milliseconds, after one that does not count. */
export async function medianMs(runs: number, call: (run: number) => Promise<void>): Promise<number> {
  const times: number[] = [];
  for (let run = 0; run <= runs; run++) {
    const begin = performance.now();
    await call(run);
    if (run > 0) times.push(performance.now() - begin);
  }
  times.sort((a, b) => a - b);
  return times[Math.floor(times.length / 2)] ?? NaN;
}
