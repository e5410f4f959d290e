import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { InvalidArgumentError } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { progressBars } from "./progress-bars.js";
import { runProgram, wholeNumber } from "./program.js";
import { teacherFolder } from "./teacher.js";
import { trainTeacher } from "./train-teacher.js";

const usage = `npm run recipe:emoji -- COMMAND [options]

Commands:
  teacher   train the autoencoder and the multi-step teacher, which the quickstart distils

Options:
  --autoencoder-steps N   default 2000
  --teacher-steps N       default 6000
  --decoder-steps N       default 1500
  --seed N                default 1
  --work FOLDER           checkpoints and logs (default recipes/emoji/work); the same command goes on from there
  --output FOLDER         the models (default recipes/emoji/teacher)`;

await runProgram(async (signal) => {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      "autoencoder-steps": { type: "string", default: "2000" },
      "teacher-steps": { type: "string", default: "6000" },
      "decoder-steps": { type: "string", default: "1500" },
      seed: { type: "string", default: "1" },
      work: { type: "string", default: fileURLToPath(new URL("../work", import.meta.url)) },
      output: { type: "string", default: teacherFolder },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return;
  }
  if (positionals.join() !== "teacher") {
    throw new InvalidArgumentError(`Expected the command "teacher", got "${positionals.join(" ")}".\n\n${usage}`);
  }
  const bars = progressBars();
  await trainTeacher({
    backend: onnxBackend({ ort }),
    workFolder: resolve(values.work),
    outputFolder: resolve(values.output),
    seed: wholeNumber("--seed", values.seed),
    autoencoderSteps: wholeNumber("--autoencoder-steps", values["autoencoder-steps"]),
    teacherSteps: wholeNumber("--teacher-steps", values["teacher-steps"]),
    decoderSteps: wholeNumber("--decoder-steps", values["decoder-steps"]),
    signal,
    onProgress: bars.update,
  }).finally(bars.stop);
  console.log(`The teacher is in ${resolve(values.output)}.`);
});
