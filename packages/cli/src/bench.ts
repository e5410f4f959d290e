import { availableParallelism, cpus } from "node:os";
import type { StageTimes } from "@sdxs/runtime";
import { InvalidArgumentError } from "@sdxs/tensor";
import { pictureSize, readCommandLine, wholeNumber } from "./command-line.js";
import { sizeName } from "./image-request.js";
import { drawingOf, drawingOptions, drawingUsage, modelUsage, openPipeline } from "./open-pipeline.js";
import type { Terminal } from "./terminal.js";

export const benchUsage = `sdxs bench MODEL [options]

Draws pictures of different prompts and prints one line of JSON: milliseconds of loading, and of each stage in the first
picture, which compiles it, and in the median of those after it.
${modelUsage}

  --runs N              pictures after the first; default 10
${drawingUsage}
  --size WxH            pixels; default: what the model was trained on`;

export async function bench(args: readonly string[], terminal: Terminal): Promise<void> {
  const { values, operands } = readCommandLine("bench", args, ["MODEL"], {
    runs: { type: "string", default: "10" },
    ...drawingOptions,
    size: { type: "string" },
  });
  const runs = wholeNumber("--runs", values.runs, 1);
  const drawing = drawingOf(values);
  if (drawing.embeddingFiles.length > 0) {
    throw new InvalidArgumentError("--embedding has no effect: sdxs bench draws prompts of its own. Leave it out.");
  }
  const size = values.size !== undefined && pictureSize("--size", values.size);

  const begin = performance.now();
  const { pipeline } = await openPipeline(operands[0]!, terminal, drawing);
  const loadMs = performance.now() - begin;
  try {
    const times: StageTimes[] = [];
    let shape: readonly number[] = [];
    let drawnSteps = 0;
    for (let run = 0; run <= runs; run++) {
      terminal.progress?.(`picture ${run} of ${runs}`);
      // Embeddings of a prompt that was drawn before would be at hand.
      const drawn = await pipeline.generate(`picture ${run}`, {
        ...size,
        seed: run,
        signal: terminal.signal,
        onStep: (_, steps) => (drawnSteps = steps),
      });
      times.push(drawn.times);
      shape = drawn.images.shape;
    }
    const [first, ...others] = times;
    const [, , height = 0, width = 0] = shape;
    const report = {
      model: operands[0],
      size: sizeName({ width, height }),
      steps: drawnSteps,
      runs,
      loadMs: rounded(loadMs),
      firstMs: stagesOf((stage) => first![stage]),
      medianMs: stagesOf((stage) => median(others.map((time) => time[stage]))),
      peakRssMb: Math.round(process.resourceUsage().maxRSS / 1024), // maxRSS is in kB
      processor: `${cpus()[0]?.model.trim() ?? "unknown"}, ${availableParallelism()} cores`,
      node: process.version,
    };
    terminal.out(JSON.stringify(report));
  } finally {
    await pipeline.dispose();
  }
}

/** What a picture from a prompt alone runs. */
type Stage = Exclude<keyof StageTimes, "imageEncoder">;

function stagesOf(ms: (stage: Stage) => number) {
  const [textEncoder, unet, decoder] = [ms("textEncoder"), ms("unet"), ms("decoder")];
  return {
    textEncoder: rounded(textEncoder),
    unet: rounded(unet),
    decoder: rounded(decoder),
    whole: rounded(textEncoder + unet + decoder),
  };
}

const rounded = (ms: number): number => Number(ms.toFixed(1));

/** The middle value; of an even number the higher of the two. */
const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;
