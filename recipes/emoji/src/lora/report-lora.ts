import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mergeLora, writeLora } from "@sdxs/lora";
import { gaussianSsim } from "@sdxs/losses";
import { HostTensor, random, type Backend, type HostParams, type Program } from "@sdxs/tensor";
import { writeSafetensorsFile } from "@sdxs/tensor/node";
import { concatRows, firstRows, mapBatches, rowCount } from "../../../rows.js";
import { openBackend, type BackendOptions } from "../../../backend.js";
import { composeCaption } from "../captions.js";
import { type EmojiStyle } from "../../../emoji-styles.js";
import { asPicture, conditions, edgeF1, placements, silhouetteOverlap } from "../controlnet/conditions.js";
import { drawStudent, studentMs, type Guide } from "../controlnet/draw.js";
import { loadEmojiDataset, type EmojiDatasetOptions } from "../dataset.js";
import { encodePrompts, samplePairs, teacherSteps } from "../distil.js";
import { captionAgreement } from "../evaluation/caption-agreement.js";
import { loadJudge } from "../evaluation/judge.js";
import { markdownTable } from "../markdown-table.js";
import { decodeLarge, decodeTiny } from "../decode.js";
import { imageEncoder } from "../../../diffusion-model.js";
import { imageSpec, latentSpec } from "../networks.js";
import { pictureSheet } from "../../../picture-sheet.js";
import { progressBars } from "../../../progress-bars.js";
import { quickstartStyles } from "../quickstart-subset.js";
import { readControlNet, readStudent } from "../shipped.js";
import { readTeacher, type Teacher } from "../teacher.js";
import { openWorkFolder, type WorkFolderOptions } from "../../../work-folder.js";
import { distilLora, loraOptions, trainStyleLora, withLora } from "./stages.js";
import { trainStyleClassifier } from "./style-classifier.js";

export interface LoraBudget {
  /** Updates of the teacher's LoRA. */
  readonly steps: number;
  /** Updates of the student's LoRA. */
  readonly distillationSteps: number;
  /** Noise-image pairs that the teacher samples with its LoRA. */
  readonly pairs: number;
}

/** Ten minutes for each style on two cores. */
export const loraBudget: LoraBudget = { steps: 400, distillationSteps: 200, pairs: 384 };

export interface LoraReportOptions extends WorkFolderOptions, BackendOptions {
  readonly budget: LoraBudget;
  readonly styles: readonly HeldOutStyle[];
  /** Pictures of each model that are judged. */
  readonly pictures: number;
  readonly signal: AbortSignal;
}

/** Styles that neither teacher nor student saw, by the names of their files. */
const heldOutStyles = { "3d": "fluent-3d", line: "high-contrast" } as const satisfies Record<string, EmojiStyle>;
export type HeldOutStyle = keyof typeof heldOutStyles;
export const heldOutStyleNames = Object.keys(heldOutStyles) as readonly HeldOutStyle[];

const styles: readonly EmojiStyle[] = [...quickstartStyles, ...Object.values(heldOutStyles)];

/** Pictures of a style that a LoRA learns from. */
const stylePictures = 512;
/** Of each style that the classifier learns from, besides what decoders make of them. */
const classifierPictures = 256;
const shown = 6;

/**
 * Gives teacher and one-step student two styles that they never saw, by LoRAs: the teacher's learns from pictures, the
 * student's is distilled from it. Leaves the student's as files, a table of how well styles are met, and a sheet.
 */
export async function reportLora(options: LoraReportOptions): Promise<void> {
  const { seed, output, budget, pictures, signal } = options;
  const backend = await openBackend(options);
  const workFolder = await openWorkFolder(options);
  const [teacher, base] = [await readTeacher(), await readStudent()];
  const bars = progressBars();
  const stage = { backend, teacher, seed, workFolder, signal, onProgress: bars.update };
  const student = base.unet.params;

  const ofStyle = (style: EmojiStyle, options: EmojiDatasetOptions = {}) =>
    loadEmojiDataset({ ...options, styles: [style], styleDropRate: 1 });
  const decoded = async (images: HostTensor): Promise<{ readonly large: HostTensor; readonly small: HostTensor }> => {
    const { config, params } = teacher.autoencoder;
    const { latents } = await mapBatches(backend, imageEncoder(config), params, { images }, 16);
    return {
      large: await decodeLarge(backend, teacher.autoencoder, latents),
      small: await decodeTiny(backend, base.decoder, latents),
    };
  };
  // As artists drew them and as both decoders draw them: what is judged comes from these, and is less sharp.
  const real: HostTensor[] = [];
  for (const style of styles) {
    const { images } = (await ofStyle(style)).batch(seed, 0, classifierPictures);
    const { large, small } = await decoded(images);
    real.push(concatRows([images, large, small]));
  }
  const classifier = await trainStyleClassifier(stage, await loadJudge(backend), real);

  // Prompts name no style: before, the model chooses one of those it knows.
  const drawn = (await ofStyle("fluent-flat", placements)).batch(seed + 1, 0, pictures);
  const prompts = drawn.samples.map(({ concept, colour }) => composeCaption({ subject: concept.subject, colour }));
  // The caption judge knows prompts with styles alone; the same one for all leaves concept and background to tell.
  const judged = drawn.samples.map(({ concept, colour }) =>
    composeCaption({ subject: concept.subject, style: "fluent-flat", colour }),
  );
  const context = await encodePrompts(backend, teacher, prompts);
  const drawTeacher = async (name: string, model: Teacher): Promise<HostTensor> => {
    const sampling = { name, captions: prompts, steps: teacherSteps, seed: `pictures ${seed}` };
    const { target } = await samplePairs({ ...stage, teacher: model }, sampling);
    return decodeLarge(backend, teacher.autoencoder, target);
  };
  const draw = async (params: HostParams, noise: HostTensor, guides: readonly Guide[] = []): Promise<HostTensor> =>
    decodeTiny(backend, base.decoder, await drawStudent(stage, params, { noise, context }, guides));
  const edges = { ...(await readControlNet()), condition: conditions.edges(drawn.images) };
  const noise = random(seed, "LoRA's pictures").normal(latentSpec(pictures).shape);
  const before = {
    teacher: await drawTeacher("pictures, teacher", teacher),
    student: await draw(student, noise),
    guided: await draw(student, noise, [edges]),
  };

  const rows: string[][] = [];
  const judge = async (label: string, images: HostTensor, name: HeldOutStyle, like?: HostTensor): Promise<void> => {
    const wanted = styles.indexOf(heldOutStyles[name]);
    const found = await classifier.styles(images);
    rows.push([
      label,
      share(found.filter((which) => which === wanted).length / rowCount(images)),
      share(await captionAgreement(backend, images, judged)),
      like ? (await edgeSimilarity(backend, images, like)).toFixed(3) : "",
      like ? silhouetteOverlap(images, like).toFixed(3) : "",
      edgeF1(conditions.edges(images), edges.condition).toFixed(3),
    ]);
  };
  const columns: (readonly [label: string, images: HostTensor])[] = [
    ["student", before.student],
    ["edges", asPicture(edges.condition)],
    ["student, edges", before.guided],
  ];
  const otherNoise = await draw(student, random(seed, "other pictures").normal(latentSpec(pictures).shape));
  for (const name of options.styles) {
    const styled = await ofStyle(heldOutStyles[name]);
    const original = await trainStyleLora(stage, styled, { name, pictures: stylePictures, steps: budget.steps });
    const styledTeacher = withLora(teacher, original);
    const { captions } = styled.batch(seed, 0, budget.pairs);
    const pairs = await samplePairs({ ...stage, teacher: styledTeacher }, { name: `pairs, ${name}`, captions });
    const lora = await distilLora(stage, pairs, student, original, { name, steps: budget.distillationSteps });
    const after = {
      teacher: await drawTeacher(`pictures, teacher, ${name}`, styledTeacher),
      student: await draw(mergeLora(student, [lora]), noise),
      guided: await draw(mergeLora(student, [lora]), noise, [edges]),
    };
    const wanted = drawn.samples.map(({ concept, colour }) => ({ concept, style: heldOutStyles[name], colour }));
    const artists = concatRows(wanted.map((combination) => asRow(styled.render(combination))));
    await judge(`${name}: the artists' pictures through the student's decoder`, (await decoded(artists)).small, name);
    await judge(`${name}: teacher without LoRA`, before.teacher, name);
    await judge(`${name}: teacher with its LoRA`, after.teacher, name, before.teacher);
    await judge(`${name}: student without LoRA`, before.student, name);
    await judge(`${name}: student without LoRA, other noise`, otherNoise, name, before.student);
    await judge(`${name}: student with its distilled LoRA`, after.student, name, before.student);
    await judge(`${name}: student with edges`, before.guided, name, before.student);
    await judge(`${name}: student with edges and its distilled LoRA`, after.guided, name, before.guided);
    columns.push(
      [`teacher, ${name}`, after.teacher],
      [`student, ${name}`, after.student],
      [`student, ${name}, edges`, after.guided],
    );
    const file = writeLora({ unet: lora }, { unet: student }, "diffusers");
    await writeSafetensorsFile(join(output, `lora-${name}.safetensors`), file, {
      dtype: "F16",
      metadata: { format: "pt" },
    });
  }
  const inputs = { noise: firstRows(noise, 1), context: firstRows(context, 1) };
  const ms = await studentMs(stage, base, inputs, []);
  const guidedMs = await studentMs(stage, base, inputs, [edges]);
  bars.stop();

  const file = (name: string): string => join(output, name);
  await writeFile(file("grid.png"), await pictureSheet(prompts.slice(0, shown), columns));
  const table =
    markdownTable(
      [
        "pictures",
        "in the style",
        "caption agreement",
        "SSIM of edges with those without LoRA",
        "overlap of silhouettes with those",
        "F1 of the given edges",
      ],
      rows,
    ) +
    `\nRank ${loraOptions.rank}; caption agreement is that of concept and background. A LoRA is merged into the student ` +
    `before it draws: a picture takes ${ms.toFixed(1)} ms with and without it, ${guidedMs.toFixed(1)} ms with edges.\n`;
  await writeFile(file("table.md"), table);
  console.log(`\n${table}\nPictures: ${file("grid.png")}\nTable:    ${file("table.md")}`);
}

/** A picture as a batch of one. */
const asRow = (image: Float32Array<ArrayBuffer>): HostTensor => new HostTensor(imageSpec(1).shape, image);

const share = (value: number): string => `${(100 * value).toFixed(1)}%`;

/** SSIM of two batches of pictures' edges, the mean: 1 where the layout is the same. */
async function edgeSimilarity<D>(backend: Backend<D>, images: HostTensor, others: HostTensor): Promise<number> {
  const program: Program<"a" | "b", "ssim"> = (ops, _, { a, b }) => ({
    ssim: gaussianSsim(ops, a, b, { dataRange: 1 }),
  });
  const edges = { a: conditions.edges(images), b: conditions.edges(others) };
  const { ssim } = await mapBatches(backend, program, {}, edges, 32);
  return Array.from(ssim.data).reduce((sum, value) => sum + value / rowCount(images), 0);
}
