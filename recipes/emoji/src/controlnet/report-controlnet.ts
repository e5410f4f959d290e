import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { HostTensor } from "@sdxs/tensor";
import { saveModel } from "@sdxs/runtime/node";
import { takeRows } from "@sdxs/training";
import { firstRows, mapBatches } from "../../../rows.js";
import { openBackend, type BackendOptions } from "../../../backend.js";
import { loadEmojiDataset, type EmojiDataset } from "../dataset.js";
import { encodePrompts, pairSteps, samplePairs, teacherSteps } from "../distil.js";
import { captionAgreement } from "../evaluation/caption-agreement.js";
import { loadEvaluationSet } from "../evaluation/evaluate.js";
import { pickPrompts } from "../evaluation/pick-prompts.js";
import { markdownTable } from "../markdown-table.js";
import { decodeLarge, decodeTiny } from "../decode.js";
import { imageEncoder } from "../../../diffusion-model.js";
import { pictureSheet } from "../../../picture-sheet.js";
import { progressBars } from "../../../progress-bars.js";
import { readStudent, readTinyUNet } from "../shipped.js";
import type { StageOptions } from "../stage.js";
import { readTeacher } from "../teacher.js";
import { openWorkFolder, type WorkFolderOptions } from "../../../work-folder.js";
import { asPicture, conditions, edgeF1, meanDifference, placements, type ConditionKind } from "./conditions.js";
import { drawStudent, drawTeacher, drawWithTeachersControlNet, studentMs } from "./draw.js";
import {
  addConditions,
  distilControlNet,
  trainOneStepControlNet,
  trainTeacherControlNet,
  type ControlNetBudget,
  type TrainedControlNet,
  type Triplets,
} from "./stages.js";

/** A quarter of an hour for each condition on two cores. */
export const controlNetBudget: ControlNetBudget = {
  pictures: 2048,
  triplets: 768, // each combination once
  steps: 2000,
  distillationSteps: 300,
  warmupSteps: 800,
  scoreSteps: 150,
};

export interface ControlNetReportOptions extends WorkFolderOptions, BackendOptions {
  readonly budget: Omit<ControlNetBudget, "pictures" | "triplets">;
  /** What guides. */
  readonly kinds: readonly ConditionKind[];
  /** Pictures of each model that are judged. */
  readonly pictures: number;
  readonly signal: AbortSignal;
}

/** Share of the noise that is drawn anew. Chosen: half. */
const redrawShare = 0.5;
/** Weights of edges and depth where both guide. */
const sharedWeights = [
  [1, 0],
  [0.75, 0.25],
  [0.5, 0.5],
  [0.25, 0.75],
  [0, 1],
  [1, 1],
] as const;
/** Pictures in the sheet. */
const shown = 6;

/**
 * Trains ControlNets for edges, depth or both: the teacher's own, the tiny one distilled from it, and that one for one step.
 * Leaves the one-step ControlNets, tables of how closely pictures follow conditions, and a sheet of pictures.
 */
export async function reportControlNet(options: ControlNetReportOptions): Promise<void> {
  const { seed, output, signal } = options;
  const budget = { ...controlNetBudget, ...options.budget };
  const backend = await openBackend(options);
  const workFolder = await openWorkFolder(options);
  const [teacher, base, tinyUNet] = [await readTeacher(), await readStudent(), await readTinyUNet()];
  const dataset = await loadEmojiDataset(placements);
  const bars = progressBars();
  const stage = { backend, teacher, seed, workFolder, signal, onProgress: bars.update };

  const student = base.unet.params;

  // What guides is extracted from artists' pictures; the training saw none that is sized and placed alike.
  const evaluation = await loadEvaluationSet(placements);
  const prompts = pickPrompts(evaluation.prompts, options.pictures, seed);
  const originals = takeRows(
    evaluation.pictures(seed),
    prompts.map((prompt) => evaluation.prompts.indexOf(prompt)),
  );
  const given = { edges: conditions.edges(originals), depth: conditions.depth(originals) };
  const context = await encodePrompts(backend, teacher, prompts);
  const large = (latents: HostTensor): Promise<HostTensor> => decodeLarge(backend, teacher.autoencoder, latents);
  const small = (latents: HostTensor): Promise<HostTensor> => decodeTiny(backend, base.decoder, latents);

  const sampling = { seed: `pictures ${seed}`, steps: teacherSteps };
  const plain = await samplePairs(stage, { name: "pictures, teacher", captions: prompts, ...sampling });
  const drawing = { noise: plain.noise, context };
  const pictures = {
    teacher: await large(plain.target),
    student: await small(await drawStudent(stage, student, drawing, [])),
  };

  /** All trainings for one condition, and what its models make of the prompts. */
  const train = async (kind: ConditionKind) => {
    const condition = given[kind];
    const original = await trainTeacherControlNet(stage, dataset, kind, budget);
    const triplets = await sampleTriplets(stage, dataset, original, kind, budget);
    const tiny = await distilControlNet(stage, triplets, tinyUNet, original, kind, budget.distillationSteps);
    const oneStepOf = (noiseRedrawShare: number) =>
      trainOneStepControlNet(stage, triplets, student, original, tiny, {
        name: `${kind}, ${noiseRedrawShare} drawn anew`,
        noiseRedrawShare,
        budget,
      });
    const trained = await oneStepOf(redrawShare);
    const kept = await oneStepOf(0);
    const drawn = await drawTeacher(stage, { context, condition }, original, {
      name: `pictures, teacher, ${kind}`,
      ...sampling,
    });
    const draw = async (model: TrainedControlNet): Promise<HostTensor> =>
      small(await drawStudent(stage, student, drawing, [{ ...model, condition }]));
    const put = await drawWithTeachersControlNet(stage, student, drawing, { ...original, condition });
    const byTeacher = await large(drawn.target);
    const byStudent = await draw(trained);
    return {
      guide: { ...trained, condition },
      byTeacher,
      byStudent,
      judged: [
        [`teacher, ${teacherSteps} steps, its ControlNet for ${kind}`, byTeacher],
        [`student, the teacher's ControlNet for ${kind} put on`, await small(put)],
        [`student, ${kind}: distilled, before one-step training`, await draw(tiny)],
        [`student, ${kind}: trained for one step, its noise kept`, await draw(kept)],
        [`student, ${kind}: trained for one step, half of its noise drawn anew`, byStudent],
      ] as const,
    };
  };
  const models: Partial<Record<ConditionKind, Awaited<ReturnType<typeof train>>>> = {};
  for (const kind of options.kinds) models[kind] = await train(kind);

  const follows = (images: HostTensor): string[] => [
    edgeF1(conditions.edges(images), given.edges).toFixed(3),
    meanDifference(conditions.depth(images), given.depth).toFixed(3),
  ];
  const { autoencoder } = teacher;
  const encoder = imageEncoder(autoencoder.config);
  const { latents } = await mapBatches(backend, encoder, autoencoder.params, { images: originals }, 16);
  const rows: string[][] = [];
  for (const [label, images] of [
    ["the artists' pictures through the student's decoder", await small(latents)] as const,
    [`teacher, ${teacherSteps} steps`, pictures.teacher] as const,
    ["student, one step", pictures.student] as const,
    ...Object.values(models).flatMap(({ judged }) => judged),
  ]) {
    rows.push([label, ...follows(images), share(await captionAgreement(backend, images, prompts))]);
  }

  const { edges, depth } = models;
  const together: string[][] = [];
  for (const [ofEdges, ofDepth] of edges && depth ? sharedWeights : []) {
    const guides = [
      { ...edges!.guide, weight: ofEdges },
      { ...depth!.guide, weight: ofDepth },
    ];
    const images = await small(await drawStudent(stage, student, drawing, guides));
    together.push([String(ofEdges), String(ofDepth), ...follows(images)]);
  }

  const guides = Object.values(models).map(({ guide }) => guide);
  const inputs = { noise: firstRows(plain.noise, 1), context: firstRows(context, 1) };
  const times: string[] = [];
  for (let count = 0; count <= guides.length; count++) {
    const ms = await studentMs(stage, base, inputs, guides.slice(0, count));
    times.push(`${ms.toFixed(1)} ms with ${count}`);
  }
  bars.stop();

  const file = (name: string): string => join(output, name);
  for (const [kind, { guide }] of Object.entries(models)) {
    const { config, params } = guide;
    await saveModel(file(`controlnet-${kind}`), { className: "ControlNetModel", config, params }, { dtype: "F16" });
  }
  const columns = Object.entries(models).flatMap(([kind, { guide, byTeacher, byStudent }]) => [
    [kind, asPicture(guide.condition)] as const,
    [`teacher, ${teacherSteps} steps`, byTeacher] as const,
    ["student, one step", byStudent] as const,
  ]);
  const sheet = await pictureSheet(prompts.slice(0, shown), [
    ["artist", originals],
    ...columns,
    ["student without control", pictures.student],
  ]);
  await writeFile(file("grid.png"), sheet);
  const table =
    markdownTable(["pictures", "edge F1", "depth error", "caption agreement"], rows) +
    (together.length > 0
      ? "\n" + markdownTable(["weight of edges", "weight of depth", "edge F1", "depth error"], together)
      : "") +
    `\nA picture of the student by the number of ControlNets: ${times.join(", ")}.\n`;
  await writeFile(file("table.md"), table);
  console.log(`\n${table}\nPictures: ${file("grid.png")}\nTable:    ${file("table.md")}`);
}

/**
 * Triplets: what the teacher samples with its ControlNet, guided by pictures of the set, and conditions extracted anew from
 * that. Without control it would place all in the middle.
 */
async function sampleTriplets<D>(
  stage: StageOptions<D>,
  dataset: EmojiDataset,
  original: TrainedControlNet,
  kind: ConditionKind,
  { pictures, triplets }: Pick<ControlNetBudget, "pictures" | "triplets">,
): Promise<Triplets> {
  const { images, captions } = dataset.batch(stage.seed, pictures, triplets);
  const drawing = {
    context: await encodePrompts(stage.backend, stage.teacher, captions),
    condition: conditions[kind](images),
  };
  const sampling = { name: `triplets, ${kind}`, seed: `triplets ${stage.seed}`, steps: pairSteps };
  return addConditions(stage, await drawTeacher(stage, drawing, original, sampling), kind);
}

const share = (value: number): string => `${(100 * value).toFixed(1)}%`;
