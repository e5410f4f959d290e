import { mkdir, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { MissingPackageError } from "@sdxs/tensor";
import { saveModel } from "@sdxs/runtime/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { writeSafetensorsFile } from "@sdxs/tensor/node";
import { loadEmojiDataset } from "./dataset.js";
import { distil, type DistillationBudget } from "./distil.js";
import { runProgram, wholeNumber } from "./program.js";
import { progressBars } from "./progress-bars.js";
import { assertKnownWords } from "./prompts.js";
import { quickstartPrompts } from "./quickstart-subset.js";
import { drawPictures, figuresTable, measureModels, pictureGrid, writeLossCurves } from "./report.js";
import { readTeacher } from "./teacher.js";

const usage = `npm run quickstart [-- options]

Distils the emoji teacher into a one-step student and shows what both make of ten prompts.

  --prompt TEXT    draw this prompt as well, teacher and student side by side; may be repeated
  --seed N         seed of everything random (default 1)
  --output FOLDER  where results go (default quickstart)
  --restart        forget an earlier run in that folder
  --help           this text`;

/** Chosen so that all of it takes seven to eight minutes on two cores. */
const budget: DistillationBudget = { pairs: 832, decoderSteps: 700, unetSteps: 80, warmupSteps: 450 };

await runProgram(async (signal) => {
  const { values } = parseArgs({
    options: {
      prompt: { type: "string", multiple: true, default: [] },
      seed: { type: "string", default: "1" },
      output: { type: "string", default: "quickstart" },
      restart: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return;
  }
  const seed = wholeNumber("--seed", values.seed);
  const output = resolve(values.output);
  // One folder for each seed: a run goes on only where the same one was interrupted.
  const workFolder = join(output, "work", `seed-${seed}`);
  if (values.restart) await rm(join(output, "work"), { recursive: true, force: true });
  await mkdir(workFolder, { recursive: true });

  const dataset = await loadEmojiDataset();
  for (const prompt of values.prompt) assertKnownWords(prompt, dataset.words);
  const teacher = await readTeacher();
  const backend = onnxBackend({ ort: await importOnnxRuntime() });

  const bars = progressBars();
  const student = await distil({
    backend,
    teacher,
    dataset,
    seed,
    budget,
    workFolder,
    signal,
    onProgress: bars.update,
  }).finally(bars.stop);

  const file = (name: string): string => join(output, name);
  await saveModel(file("student-unet"), { className: "UNet2DConditionModel", ...student.unet }, { dtype: "F16" });
  await writeSafetensorsFile(file("tiny-decoder.safetensors"), student.decoder, { dtype: "F16" });
  const pictures = await drawPictures(backend, teacher, student, quickstartPrompts, seed);
  await writeFile(file("grid.png"), await pictureGrid(dataset, quickstartPrompts, pictures));
  await writeLossCurves(workFolder, file("losses.png"));
  const table = figuresTable(await measureModels(backend, teacher, student));
  await writeFile(file("table.md"), table);
  console.log(
    `\n${table}\nPictures: ${file("grid.png")}\nLosses:   ${file("losses.png")}\nTable:    ${file("table.md")}`,
  );
  if (values.prompt.length > 0) {
    const own = await drawPictures(backend, teacher, student, values.prompt, seed);
    await writeFile(file("prompts.png"), await pictureGrid(dataset, values.prompt, own));
    console.log(`Prompts:  ${file("prompts.png")}`);
  }
});

async function importOnnxRuntime() {
  try {
    return await import("onnxruntime-node");
  } catch (cause) {
    throw new MissingPackageError("onnxruntime-node", "The quickstart", { cause });
  }
}
