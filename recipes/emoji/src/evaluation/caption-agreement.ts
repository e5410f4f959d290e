import {
  InvalidArgumentError,
  checkParameters,
  scope,
  type Backend,
  type HostTensor,
  type Program,
} from "@sdxs/tensor";
import { readSafetensorsFile } from "@sdxs/tensor/node";
import { mapBatches, rowCount } from "../../../rows.js";
import { promptTokens } from "../models.js";
import { readTokenizer } from "../tokenizer.js";
import { captionModelFile, captionModelParameters, embedCaptions, embedImages } from "./caption-model.js";

/**
 * How well pictures show what their prompts say: the share whose own prompt, of all distinct prompts given, fits best by
 * an image-text model that saw nothing but the data set's pictures. Chance is 1 in the number of distinct prompts.
 *
 * @param images [n, 3, 64, 64] in [-1, 1]
 * @param prompts of each image, in the form of the data set's captions with style and background
 * @param weightsFile default: the shipped model
 * @returns from 0 to 1
 *
 * @throws InvalidArgumentError where there is not one prompt for each image; SdxsError `MISSING_FILE` without weights.
 *
 * @example
 * await captionAgreement(backend, images, ["a red apple, flat style, on a blue background", ...]); // 0.9
 */
export async function captionAgreement<D>(
  backend: Backend<D>,
  images: HostTensor,
  prompts: readonly string[],
  weightsFile: string = captionModelFile,
): Promise<number> {
  if (rowCount(images) !== prompts.length || prompts.length === 0) {
    throw new InvalidArgumentError(
      `captionAgreement: expected a prompt for each image and at least one, got ${prompts.length} prompts for ` +
        `${rowCount(images)} images.`,
    );
  }
  const tokenizer = await readTokenizer();
  const { tensors } = await readSafetensorsFile(weightsFile);
  checkParameters(captionModelParameters(tokenizer.vocabularySize), tensors);
  const candidates = [...new Set(prompts)];
  const ids = tokenizer.encodeBatch(candidates, promptTokens);
  const pictures = await mapBatches(backend, imageProgram, tensors, { images }, 32);
  const captions = await mapBatches(backend, captionProgram(tokenizer.vocabularySize), tensors, { ids }, 32);
  const best = bestRows(pictures.embeddings, captions.embeddings);
  return best.filter((candidate, row) => candidates[candidate] === prompts[row]).length / prompts.length;
}

const imageProgram: Program<"images", "embeddings"> = (ops, params, { images }) => ({
  embeddings: embedImages(ops, scope(ops, params, "image"), images),
});

function captionProgram(vocabularySize: number): Program<"ids", "embeddings"> {
  return (ops, params, { ids }) => ({
    embeddings: embedCaptions(ops, scope(ops, params, "text"), vocabularySize, ids),
  });
}

/** For each row of `queries` [n, d] the row of `keys` [m, d] with the largest inner product. */
function bestRows(queries: HostTensor, keys: HostTensor): number[] {
  const [count = 0, width = 1] = queries.shape;
  return Array.from({ length: count }, (_, query) => {
    let best = 0;
    let highest = -Infinity;
    for (let key = 0; key < rowCount(keys); key++) {
      let product = 0;
      for (let i = 0; i < width; i++) product += queries.data[query * width + i]! * keys.data[key * width + i]!;
      if (product > highest) [best, highest] = [key, product];
    }
    return best;
  });
}
