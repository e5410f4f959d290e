/**
 * How good generated pictures are, by judges that no model was trained with.
 *
 *   const { combinations, prompts } = await loadEvaluationSet();
 *   const reference = await referenceFeatures(backend, "work/reference.safetensors");
 *   const figures = await evaluatePictures(backend, images, reference, prompts); // images drawn for these prompts
 *
 * The Fréchet distance of few samples is too large, and the more so the fewer there are. Every model draws one picture
 * for each of the evaluation set's prompts, so that all share this bias; figures of other numbers of pictures do not
 * compare.
 */
import { HostTensor, random, type Backend } from "@sdxs/tensor";
import { readSafetensorsFile, writeSafetensorsFile } from "@sdxs/tensor/node";
import { composeCaption } from "../captions.js";
import { loadEmojiDataset, type EmojiCombination, type EmojiDatasetOptions } from "../dataset.js";
import { captionAgreement } from "./caption-agreement.js";
import { frechetDistance } from "./frechet-distance.js";
import { loadJudge } from "./judge.js";
import { precisionRecall } from "./precision-recall.js";

export interface EvaluationSet {
  /** Every concept of the quickstart in every style on every background once, held-out ones included. */
  readonly combinations: readonly EmojiCombination[];
  /** The caption of each, with style and background; no two are equal. */
  readonly prompts: readonly string[];
  /** The captions without their style, which is left to the noise then; each once. */
  readonly openPrompts: readonly string[];
  /**
   * The artists' picture of each, [combinations, 3, 64, 64] in [-1, 1]; other seeds size and place them otherwise.
   */
  readonly pictures: (seed: number) => HostTensor;
}

/**
 * The prompts that every model draws, and the real pictures. Throws as `loadEmojiDataset`.
 *
 * @param placements how pictures are sized and placed. Default: as in training
 */
export async function loadEvaluationSet(
  placements: Pick<EmojiDatasetOptions, "minimumScale" | "maximumShift"> = {},
): Promise<EvaluationSet> {
  const dataset = await loadEmojiDataset({ ...placements, holdOut: false });
  const { imageSize, trainingCombinations: combinations } = dataset;
  return {
    combinations,
    prompts: combinations.map(({ concept, style, colour }) =>
      composeCaption({ subject: concept.subject, style, colour }),
    ),
    openPrompts: [
      ...new Set(combinations.map(({ concept, colour }) => composeCaption({ subject: concept.subject, colour }))),
    ],
    pictures(seed) {
      const images = HostTensor.filled([combinations.length, 3, imageSize, imageSize], 0);
      combinations.forEach((combination, row) => {
        const image = dataset.jittered(combination, random(seed, "evaluation", row));
        images.data.set(image, row * image.length);
      });
      return images;
    },
  };
}

/**
 * The judge's features of the evaluation set's real pictures, computed once and kept in a file.
 *
 * @returns [pictures, 256], the `reference` of `evaluatePictures`
 */
export async function referenceFeatures<D>(backend: Backend<D>, cacheFile: string): Promise<HostTensor> {
  try {
    const { features } = (await readSafetensorsFile(cacheFile)).tensors;
    if (features) return features;
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "MISSING_FILE")) throw error;
  }
  const judge = await loadJudge(backend);
  const features = await judge.features((await loadEvaluationSet()).pictures(0));
  await writeSafetensorsFile(cacheFile, { features });
  return features;
}

export interface Evaluation {
  /** Fréchet distance to the real pictures; 0 is best. Its unit is that of this judge: it compares with no FID. */
  readonly frechet: number;
  /** From 0 to 1: how many pictures look real. */
  readonly precision: number;
  /** From 0 to 1: how many real pictures are near a generated one. */
  readonly recall: number;
  /** From 0 to 1: how many pictures show their own prompt best. */
  readonly captionAgreement: number;
}

/**
 * Judges pictures by their features' distance from real ones', and by how well they show their prompts.
 *
 * @param images [n, 3, 64, 64] in [-1, 1]
 * @param reference features of real pictures [m, 256], see `referenceFeatures`
 * @param prompts of each image
 *
 * Throws as `captionAgreement` and `loadJudge`.
 */
export async function evaluatePictures<D>(
  backend: Backend<D>,
  images: HostTensor,
  reference: HostTensor,
  prompts: readonly string[],
): Promise<Evaluation> {
  const agreement = await captionAgreement(backend, images, prompts);
  const judge = await loadJudge(backend);
  const features = await judge.features(images);
  return {
    frechet: frechetDistance(reference, features),
    ...precisionRecall(reference, features),
    captionAgreement: agreement,
  };
}

/** Evaluations as a Markdown table, one line each. */
export function evaluationTable(rows: readonly { readonly label: string; readonly evaluation: Evaluation }[]): string {
  const share = (value: number): string => `${(100 * value).toFixed(1)}%`;
  const lines = rows.map(
    ({ label, evaluation: { frechet, precision, recall, captionAgreement: agreement } }) =>
      `| ${label} | ${frechet.toFixed(2)} | ${share(precision)} | ${share(recall)} | ${share(agreement)} |`,
  );
  return `| pictures | Fréchet distance | precision | recall | caption agreement |\n| --- | --- | --- | --- | --- |\n${lines.join("\n")}\n`;
}
