import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { distilAndReport } from "./distil-and-report.js";
import { quickstartBudget } from "./distil.js";
import { runProgram, wholeNumber } from "../../program.js";
import { readTinyUNet } from "./shipped.js";

const usage = `npm run quickstart [-- options]

Trains a one-step student of the emoji teacher and shows what both make of ten prompts.

  --prompt TEXT    draw this prompt as well, teacher and student side by side; may be repeated
  --seed N         seed of everything random (default 1)
  --output FOLDER  where results go (default quickstart)
  --restart        forget an earlier run in that folder
  --gpu            compute on the GPU in float32, by the package webgpu; default: on the processor
  --help           this text`;

await runProgram(async (signal) => {
  const { values } = parseArgs({
    options: {
      prompt: { type: "string", multiple: true, default: [] },
      seed: { type: "string", default: "1" },
      output: { type: "string", default: "quickstart" },
      restart: { type: "boolean", default: false },
      gpu: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return;
  }
  await distilAndReport({
    budget: quickstartBudget,
    tiny: await readTinyUNet(),
    seed: wholeNumber("--seed", values.seed),
    output: resolve(values.output),
    prompts: values.prompt,
    restart: values.restart,
    gpu: values.gpu,
    signal,
  });
});
