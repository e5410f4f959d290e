import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HostTensor, specsOf } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { saveModel } from "@sdxs/runtime/node";
import { takeRows } from "@sdxs/training";
import * as ort from "onnxruntime-node";
import { firstRows, mapBatches } from "../../../rows.js";
import { loadEmojiDataset } from "../dataset.js";
import {
  distil,
  encodePrompts,
  quickstartBudget,
  samplePairs,
  studentPlan,
  teacherSteps,
  type StageOptions,
  type Student,
} from "../distil.js";
import { captionAgreement } from "../evaluation/caption-agreement.js";
import { loadEvaluationSet } from "../evaluation/evaluate.js";
import { pickPrompts } from "../evaluation/pick-prompts.js";
import { markdownTable } from "../markdown-table.js";
import { decodeLarge, decodeTiny } from "../decode.js";
import { tinyDecoderConfig } from "../models.js";
import { imageEncoder, latentSpec, tinyImageDecoder } from "../networks.js";
import { pictureSheet } from "../picture-sheet.js";
import { progressBars } from "../progress-bars.js";
import { medianMs } from "../report.js";
import { readTeacher } from "../teacher.js";
import { openWorkFolder, type WorkFolderOptions } from "../work-folder.js";
import { conditions, edgeF1, meanDifference, type ConditionKind } from "./conditions.js";
import {
  drawStudent,
  drawTeacher,
  drawWithTeachersControlNet,
  guided,
  guidedParams,
  oneStep,
  stackConditions,
  type Guide,
} from "./draw.js";
import {
  addConditions,
  distilControlNet,
  trainOneStepControlNet,
  trainTeacherControlNet,
  type ControlNetBudget,
  type TrainedControlNet,
} from "./stages.js";

/** Half an hour on two cores, after the student's own ten minutes. */
export const controlNetBudget: ControlNetBudget = {
  pictures: 1536, // each combination twice
  steps: 300,
  distillationSteps: 80,
  warmupSteps: 150,
  scoreSteps: 30,
};

export interface ControlNetReportOptions extends WorkFolderOptions {
  readonly budget: Omit<ControlNetBudget, "pictures">;
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
  const workFolder = await openWorkFolder(options);
  const backend = onnxBackend({ ort });
  const [dataset, teacher] = [await loadEmojiDataset(), await readTeacher()];
  const bars = progressBars();
  const stage = { backend, teacher, seed, workFolder, signal, onProgress: bars.update };

  const base = await distil({ ...stage, dataset, budget: quickstartBudget });
  const student = base.unet.params;
  const captions = dataset.batch(seed, 0, quickstartBudget.pairs).captions;
  const pairs = await samplePairs(stage, { captions });

  // What guides is extracted from artists' pictures, sized and placed otherwise than those of the training.
  const evaluation = await loadEvaluationSet();
  const prompts = pickPrompts(evaluation.prompts, options.pictures, seed);
  const originals = takeRows(
    evaluation.pictures(seed),
    prompts.map((prompt) => evaluation.prompts.indexOf(prompt)),
  );
  const given = { edges: conditions.edges(originals), depth: conditions.depth(originals) };
  const context = await encodePrompts(backend, teacher, prompts);
  const large = (latents: HostTensor): Promise<HostTensor> => decodeLarge(backend, teacher.autoencoder, latents);
  const small = (latents: HostTensor): Promise<HostTensor> => decodeTiny(backend, base.decoder, latents);

  const plain = await samplePairs(stage, {
    name: "pictures, teacher",
    captions: prompts,
    steps: teacherSteps,
    seed: `pictures ${seed}`,
  });
  const drawing = { noise: plain.noise, context };
  const pictures = {
    teacher: await large(plain.target),
    student: await small(await drawStudent(stage, student, drawing, [])),
  };

  /** All trainings for one condition, and what its models make of the prompts. */
  const train = async (kind: ConditionKind) => {
    const condition = given[kind];
    const triplets = await addConditions(stage, pairs, kind);
    const original = await trainTeacherControlNet(stage, dataset, kind, budget);
    const tiny = await distilControlNet(stage, triplets, base.tiny, original, kind, budget.distillationSteps);
    const oneStepOf = (noiseRedrawShare: number) =>
      trainOneStepControlNet(stage, triplets, student, original, tiny, {
        name: `${kind}, ${noiseRedrawShare} drawn anew`,
        noiseRedrawShare,
        budget,
      });
    const trained = await oneStepOf(redrawShare);
    const kept = await oneStepOf(0);
    const { latents } = await drawTeacher(stage, `pictures, teacher, ${kind}`, { context, condition }, original);
    const draw = async (model: TrainedControlNet): Promise<HostTensor> =>
      small(await drawStudent(stage, student, drawing, [{ ...model, condition }]));
    const put = await drawWithTeachersControlNet(stage, student, drawing, { ...original, condition });
    const byTeacher = await large(latents);
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

/** Median time of the student's picture, from prompt embedding to pixels, one at a time. */
async function studentMs<D>(
  { backend, teacher }: StageOptions<D>,
  { unet: { params }, decoder }: Student,
  given: { readonly noise: HostTensor; readonly context: HostTensor },
  guides: readonly Guide[],
): Promise<number> {
  const condition = guides.length > 0 && { condition: stackConditions(guides, 1) };
  const inputs: typeof given = { ...given, ...condition };
  const generator = await backend.compile(oneStep(guided(studentPlan(teacher).config, guides)), {
    frozen: guidedParams(params, guides),
    inputs: specsOf(inputs),
  });
  const decoding = await backend.compile(tinyImageDecoder(tinyDecoderConfig), {
    frozen: decoder,
    inputs: { latents: latentSpec(1) },
  });
  const ms = await medianMs(30, async () => {
    const { latents } = await generator.run({}, inputs);
    await backend.download((await decoding.run({}, { latents })).images);
  });
  await generator.dispose();
  await decoding.dispose();
  return ms;
}

const share = (value: number): string => `${(100 * value).toFixed(1)}%`;

/** Conditions from 0 to 1 as pictures in [-1, 1]. */
function asPicture({ shape, data }: HostTensor): HostTensor {
  return new HostTensor(
    shape,
    Float32Array.from(data, (value) => 2 * value - 1),
  );
}
