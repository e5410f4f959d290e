import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HostTensor, random, type HostParams } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { saveModel } from "@sdxs/runtime/node";
import { takeRows } from "@sdxs/training";
import * as ort from "onnxruntime-node";
import { mapBatches } from "../../../rows.js";
import { loadEmojiDataset } from "../dataset.js";
import { distil, encodePrompts, quickstartBudget, samplePairs, studentPlan, teacherSteps } from "../distil.js";
import { captionAgreement } from "../evaluation/caption-agreement.js";
import { loadEvaluationSet } from "../evaluation/evaluate.js";
import { pickPrompts } from "../evaluation/pick-prompts.js";
import { markdownTable } from "../markdown-table.js";
import { tinyDecoderConfig } from "../models.js";
import { imageDecoder, latentSpec, tinyImageDecoder } from "../networks.js";
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
  type Guide,
} from "./draw.js";
import {
  addConditions,
  distilControlNet,
  trainOneStepControlNet,
  trainTeacherControlNet,
  type ControlNetBudget,
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
  /** Pictures of each model that are judged. */
  readonly pictures: number;
  readonly signal: AbortSignal;
}

/** Share of the noise that is drawn anew. Chosen: half. */
const redrawShare = 0.5;
/** Pictures in the sheet. */
const shown = 6;

/**
 * Trains ControlNets for edges and depth: the teacher's own, the tiny one distilled from it, and that one for one step.
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

  // Artists' pictures that no training saw, sized and placed at random: their conditions guide.
  const evaluation = await loadEvaluationSet();
  const prompts = pickPrompts(evaluation.prompts, options.pictures, seed);
  const originals = takeRows(
    evaluation.pictures(seed),
    prompts.map((prompt) => evaluation.prompts.indexOf(prompt)),
  );
  const context = await encodePrompts(backend, teacher, prompts);
  const large = async (latents: HostTensor): Promise<HostTensor> =>
    (await mapBatches(backend, imageDecoder(teacher.autoencoder.config), teacher.autoencoder.params, { latents }, 16))
      .images;
  const small = async (latents: HostTensor): Promise<HostTensor> =>
    (await mapBatches(backend, tinyImageDecoder(tinyDecoderConfig), base.decoder, { latents }, 16)).images;

  const plain = await samplePairs(stage, {
    name: "pictures, teacher",
    captions: prompts,
    steps: teacherSteps,
    seed: `pictures ${seed}`,
  });
  const given = { noise: plain.noise, context };
  const pictures: Record<"teacher" | "student", HostTensor> = {
    teacher: await large(plain.target),
    student: await small(await drawStudent(stage, student, given, [])),
  };

  /** All trainings for one condition, and what their models draw. */
  const train = async (kind: ConditionKind) => {
    const condition = conditions[kind](originals);
    const triplets = await addConditions(stage, pairs, kind);
    const original = await trainTeacherControlNet(stage, dataset, kind, budget);
    const tiny = await distilControlNet(stage, triplets, student, original, kind, budget.distillationSteps);
    const oneStepOf = (noiseRedrawShare: number) =>
      trainOneStepControlNet(stage, triplets, student, original, tiny, {
        name: `${kind}, ${noiseRedrawShare} drawn anew`,
        noiseRedrawShare,
        budget,
      });
    const trained = await oneStepOf(redrawShare);
    const { latents } = await drawTeacher(stage, `pictures, teacher, ${kind}`, { context, condition }, original);
    const draw = async (control: HostParams): Promise<HostTensor> =>
      small(await drawStudent(stage, student, given, [{ config: trained.config, params: control, condition }]));
    return { condition, original, tiny, trained, oneStepOf, draw, teacher: await large(latents) };
  };

  const edges = await train("edges");
  const kept = await edges.oneStepOf(0);
  const depth = await train("depth");
  const put = await small(
    await drawWithTeachersControlNet(stage, student, given, { ...edges.original, condition: edges.condition }),
  );
  const drawn = {
    edges: await edges.draw(edges.trained.params),
    depth: await depth.draw(depth.trained.params),
  };

  const judged: readonly (readonly [label: string, images: HostTensor])[] = [
    ["the artists' pictures", originals],
    [`teacher, ${teacherSteps} steps`, pictures.teacher],
    [`teacher, ${teacherSteps} steps, its ControlNet for edges`, edges.teacher],
    [`teacher, ${teacherSteps} steps, its ControlNet for depth`, depth.teacher],
    ["student, one step", pictures.student],
    ["student with the teacher's ControlNet for edges put on", put],
    ["student, edges: distilled, before one-step training", await edges.draw(edges.tiny.params)],
    ["student, edges: one-step trained, the noise kept", await edges.draw(kept.params)],
    ["student, edges: one-step trained, half of the noise drawn anew", drawn.edges],
    ["student, depth: one-step trained, half of the noise drawn anew", drawn.depth],
  ];
  const weights = [
    [1, 0],
    [0.75, 0.25],
    [0.5, 0.5],
    [0.25, 0.75],
    [0, 1],
    [1, 1],
  ] as const;
  const follows = (images: HostTensor): string[] => [
    edgeF1(conditions.edges(images), edges.condition).toFixed(3),
    meanDifference(conditions.depth(images), depth.condition).toFixed(3),
  ];
  const rows: string[][] = [];
  for (const [label, images] of judged) {
    rows.push([label, ...follows(images), share(await captionAgreement(backend, images, prompts))]);
  }
  const together: string[][] = [];
  for (const [ofEdges, ofDepth] of weights) {
    const guides: Guide[] = [
      { ...edges.trained, condition: edges.condition, weight: ofEdges },
      { ...depth.trained, condition: depth.condition, weight: ofDepth },
    ];
    const images = await small(await drawStudent(stage, student, given, guides));
    together.push([String(ofEdges), String(ofDepth), ...follows(images)]);
  }

  const times = async (guides: readonly Guide[]): Promise<number> => {
    const { config } = studentPlan(teacher);
    const inputs = {
      noise: latentSpec(1),
      context: { shape: [1, ...context.shape.slice(1)] },
      ...(guides.length > 0 && { condition: { shape: [1, 3, ...edges.condition.shape.slice(2)] } }),
    };
    const compiled = await backend.compile(oneStep(guided(config, guides)), {
      frozen: guidedParams(student, guides),
      inputs,
    });
    const decoder = await backend.compile(tinyImageDecoder(tinyDecoderConfig), {
      frozen: base.decoder,
      inputs: { latents: latentSpec(1) },
    });
    const ms = await medianMs(30, async (run) => {
      const feeds = {
        noise: random("figures", run).normal(latentSpec(1).shape),
        context: takeRows(context, [0]),
        ...(guides.length > 0 && { condition: takeRows(edges.condition, [0]) }),
      };
      const { latents } = await compiled.run({}, feeds);
      await backend.download((await decoder.run({}, { latents })).images);
    });
    await compiled.dispose();
    await decoder.dispose();
    return ms;
  };
  const plainMs = await times([]);
  const guidedMs = await times([{ ...edges.trained, condition: edges.condition }]);
  bars.stop();

  const file = (name: string): string => join(output, name);
  for (const [kind, model] of Object.entries({ edges: edges.trained, depth: depth.trained })) {
    await saveModel(file(`controlnet-${kind}`), { className: "ControlNetModel", ...model }, { dtype: "F16" });
  }
  await writeFile(
    file("grid.png"),
    await pictureSheet(prompts.slice(0, shown), [
      ["artist", originals],
      ["edges", asPicture(edges.condition)],
      [`teacher, ${teacherSteps} steps`, edges.teacher],
      ["student, one step", drawn.edges],
      ["depth", asPicture(depth.condition)],
      [`teacher, ${teacherSteps} steps`, depth.teacher],
      ["student, one step", drawn.depth],
      ["student, no control", pictures.student],
    ]),
  );
  const table =
    markdownTable(["pictures", "edge F1", "depth error", "caption agreement"], rows) +
    "\n" +
    markdownTable(["weight of edges", "weight of depth", "edge F1", "depth error"], together) +
    `\nThe student takes ${plainMs.toFixed(1)} ms for a picture, with a ControlNet ${guidedMs.toFixed(1)} ms.\n`;
  await writeFile(file("table.md"), table);
  console.log(`\n${table}\nPictures: ${file("grid.png")}\nTable:    ${file("table.md")}`);
}

const share = (value: number): string => `${(100 * value).toFixed(1)}%`;

/** Conditions from 0 to 1 as pictures in [-1, 1]. */
function asPicture({ shape, data }: HostTensor): HostTensor {
  return new HostTensor(
    shape,
    Float32Array.from(data, (value) => 2 * value - 1),
  );
}
