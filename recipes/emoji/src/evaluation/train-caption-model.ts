import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { HostTensor, cosineSchedule, initialize, random, type Backend } from "@sdxs/tensor";
import { writeSafetensorsFile } from "@sdxs/tensor/node";
import { gradientTask, train } from "@sdxs/training";
import { csvLog, fileCheckpoints } from "@sdxs/training/node";
import { composeCaption } from "../captions.js";
import { loadEmojiDataset } from "../dataset.js";
import { promptTokens } from "../models.js";
import { imageSpec, promptSpec } from "../networks.js";
import type { StageProgress } from "../../../progress-bars.js";
import { readTokenizer } from "../tokenizer.js";
import { captionModelParameters, captionTraining } from "./caption-model.js";

export interface CaptionModelTrainingOptions<D> {
  readonly backend: Backend<D>;
  /** Where checkpoints and the log go; a run that finds them goes on from there. */
  readonly workFolder: string;
  /** The weights as fp16. */
  readonly outputFile: string;
  readonly seed: number;
  readonly steps: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (stage: string, progress: StageProgress) => void;
}

/** Chosen for two cores; the other images of the batch are a caption's negatives. */
const batchSize = 64;

/**
 * Trains the image-text model of `captionAgreement` on the data set's pictures. It judges, so it sees the held-out
 * combinations too, and no generated picture.
 */
export async function trainCaptionModel<D>(options: CaptionModelTrainingOptions<D>): Promise<void> {
  const { backend, workFolder, outputFile, seed, steps } = options;
  // Chosen: more jitter than the generators are trained with.
  const dataset = await loadEmojiDataset({ holdOut: false, minimumScale: 0.75, maximumShift: 5 });
  const combinations = dataset.trainingCombinations;
  const tokenizer = await readTokenizer();
  const degree = { shape: [batchSize, 1, 1, 1] };
  const task = await gradientTask({
    name: "caption model",
    backend,
    program: captionTraining(tokenizer.vocabularySize),
    params: initialize(captionModelParameters(tokenizer.vocabularySize), seed),
    inputs: {
      images: imageSpec(batchSize),
      noise: imageSpec(batchSize),
      noiseLevel: degree,
      blur: degree,
      ids: promptSpec(batchSize),
    },
    batch(step) {
      const stream = random(seed, "caption model", step);
      const chosen = distinctIntegers(stream.at("combinations").uniform([combinations.length]), batchSize);
      const { shape } = imageSpec(batchSize);
      const images = HostTensor.filled(shape, 0);
      const captions = chosen.map((index, row) => {
        const { concept, style, colour } = combinations[index]!;
        const image = dataset.jittered({ concept, style, colour }, stream.at("jitter").at(row));
        images.data.set(image, row * image.length);
        return composeCaption({ subject: concept.subject, style, colour });
      });
      const noiseLevel = stream.at("noise level").uniform(degree.shape);
      noiseLevel.data.forEach((value, row) => (noiseLevel.data[row] = 0.2 * value)); // chosen: visible, a tenth of the range
      return {
        images,
        noise: stream.at("noise").normal(shape),
        noiseLevel,
        blur: stream.at("blur").uniform(degree.shape),
        ids: tokenizer.encodeBatch(captions, promptTokens),
      };
    },
    batchSize,
    optimizer: { weightDecay: 0.05, clipNorm: 1, emaDecay: 0.99 },
    learningRate: cosineSchedule({
      rate: 2e-3,
      warmupSteps: Math.floor(steps / 30),
      totalSteps: steps,
      finalRate: 2e-5,
    }),
    steps,
  });
  await train(task, {
    checkpoints: fileCheckpoints(join(workFolder, "checkpoints")),
    checkpointEverySeconds: 60,
    log: csvLog(join(workFolder, "metrics.csv")),
    ...(options.signal && { signal: options.signal }),
    onProgress: (progress) => options.onProgress?.("caption model", progress),
  });
  await mkdir(dirname(outputFile), { recursive: true });
  await writeSafetensorsFile(outputFile, await task.weights({ averaged: true }), { dtype: "F16" });
  await task.dispose();
}

/** As many different indices of uniform numbers: those of the smallest. */
function distinctIntegers({ data }: HostTensor, count: number): number[] {
  return Array.from(data, (_, index) => index)
    .sort((a, b) => data[a]! - data[b]!)
    .slice(0, count);
}
