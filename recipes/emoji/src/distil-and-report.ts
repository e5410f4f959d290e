import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { HostParams } from "@sdxs/tensor";
import { savePipelineFolder } from "@sdxs/runtime/node";
import { openBackend, type BackendOptions } from "../../backend.js";
import { loadEmojiDataset } from "./dataset.js";
import { distil, type DistillationBudget } from "./distil.js";
import { studentPipeline } from "./pipelines.js";
import { progressBars } from "../../progress-bars.js";
import { assertKnownWords } from "./prompts.js";
import { quickstartPrompts } from "./quickstart-subset.js";
import { drawPictures, figuresTable, measureModels, pictureGrid, writeLossCurves } from "./report.js";
import { readTeacher } from "./teacher.js";
import { openWorkFolder, type WorkFolderOptions } from "../../work-folder.js";

export interface RunOptions extends WorkFolderOptions, BackendOptions {
  readonly budget: DistillationBudget;
  /** What the student begins as. */
  readonly tiny: HostParams;
  /** Prompts to draw besides those of the quickstart. */
  readonly prompts: readonly string[];
  readonly signal: AbortSignal;
}

/** Distils the shipped teacher, and leaves the student as a diffusers folder, pictures, loss curves and a table of sizes and times. */
export async function distilAndReport(options: RunOptions): Promise<void> {
  const { budget, tiny, seed, output, prompts, signal } = options;
  const backend = await openBackend(options);
  const workFolder = await openWorkFolder(options);

  const dataset = await loadEmojiDataset();
  for (const prompt of prompts) assertKnownWords(prompt, dataset.words);
  const teacher = await readTeacher();

  const bars = progressBars();
  const student = await distil({
    backend,
    teacher,
    dataset,
    seed,
    budget,
    tiny,
    workFolder,
    signal,
    onProgress: bars.update,
  }).finally(bars.stop);

  const file = (name: string): string => join(output, name);
  await savePipelineFolder(file("student"), { components: studentPipeline(teacher, student) }, { dtype: "F16" });
  const students =
    budget.scoreSteps === 0
      ? [{ label: "student, one step", student }]
      : [
          { label: "student, warmed up", student: student.warmedUp },
          { label: "student, scores distilled", student },
        ];
  const writeGrid = async (name: string, drawn: readonly string[]): Promise<void> => {
    const pictures = await drawPictures(backend, teacher, students, drawn, seed);
    await writeFile(file(name), await pictureGrid(dataset, drawn, pictures));
  };
  await writeGrid("grid.png", quickstartPrompts);
  await writeLossCurves(workFolder, file("losses.png"));
  const table = figuresTable(await measureModels(backend, teacher, student));
  await writeFile(file("table.md"), table);
  console.log(
    `\n${table}\nPictures: ${file("grid.png")}\nLosses:   ${file("losses.png")}\nTable:    ${file("table.md")}\nStudent:  ${file("student")}`,
  );
  if (prompts.length > 0) {
    await writeGrid("prompts.png", prompts);
    console.log(`Prompts:  ${file("prompts.png")}`);
  }
}
