import { join } from "node:path";
import { parseTextEncoderConfig, textEncoder } from "@sdxs/runtime";
import {
  convLayer,
  declareParameters,
  groupNormLayer,
  linearLayer,
  scope,
  silu,
  type Ops,
  type ParameterSpec,
  type Program,
  type Scope,
} from "@sdxs/tensor";
import { dataFolder } from "../data.js";
import { imageSize, promptTokens } from "../models.js";
import { imageSpec, promptSpec } from "../networks.js";

/** The weights that `npm run recipe:emoji -- judge` trains. */
export const captionModelFile = join(dataFolder, "../judge/caption-model.safetensors");

/** Features that pictures and captions share. */
const embeddingSize = 64;

const captionTextConfig = (vocabularySize: number) =>
  parseTextEncoderConfig({
    vocab_size: vocabularySize,
    hidden_size: 64,
    intermediate_size: 128,
    projection_dim: embeddingSize,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    max_position_embeddings: promptTokens,
    eos_token_id: 2,
  });

/** A picture's embedding by a small residual network. images [batch, 3, 64, 64] in [-1, 1] to [batch, 64], of norm 1. */
export function embedImages<T>(ops: Ops<T>, p: Scope<T>, images: T): T {
  const normalized = (name: string, x: T): T => silu(ops, groupNormLayer(ops, p.at(name), x, 8, 1e-5));
  const shrink = (name: string, x: T, channels: number): T =>
    normalized(`${name}_norm`, convLayer(ops, p.at(name), x, channels, { stride: 2, padding: 1 }));
  const residual = (name: string, x: T, channels: number): T =>
    ops.add(x, normalized(`${name}_norm`, convLayer(ops, p.at(name), x, channels)));
  let x = shrink("down0", images, 24); // 32 pixels
  x = residual("residual1", shrink("down1", x, 48), 48); // 16
  x = residual("residual2", shrink("down2", x, 96), 96); // 8
  x = shrink("down3", x, 128); // 4
  return unit(ops, linearLayer(ops, p.at("projection"), ops.mean(x, { axes: [2, 3] }), embeddingSize));
}

/** A caption's embedding by a small CLIP text encoder. ids [batch, tokens] to [batch, 64], of norm 1. */
export function embedCaptions<T>(ops: Ops<T>, p: Scope<T>, vocabularySize: number, ids: T): T {
  const { textEmbeds } = textEncoder(ops, p, captionTextConfig(vocabularySize), ids, { projection: true });
  return unit(ops, textEmbeds as T);
}

function unit<T>(ops: Ops<T>, x: T): T {
  return ops.div(x, ops.sqrt(ops.add(ops.sum(ops.square(x), { axes: [1], keepDims: true }), 1e-8)));
}

/** CLIP's first temperature (arXiv:2103.00020, section 2.5). It stays here: 64 pictures a step leave little to learn. */
const temperature = 0.07;

/**
 * CLIP's contrastive training (arXiv:2103.00020, Figure 3): of the batch's captions a picture should find its own, and
 * a caption its picture. Pictures are blurred and made noisy to degrees, [batch, 1, 1, 1] each from 0 on, because
 * generated ones are. Parameters under "image." and "text.".
 */
export function captionTraining(
  vocabularySize: number,
): Program<"images" | "noise" | "noiseLevel" | "blur" | "ids", "loss" | "accuracy"> {
  return (ops, params, { images, noise, noiseLevel, blur, ids }) => {
    const softened = ops.add(images, ops.mul(blur, ops.sub(gaussianBlur(ops, images), images)));
    const seen = ops.add(softened, ops.mul(noiseLevel, noise));
    const pictures = embedImages(ops, scope(ops, params, "image"), seen);
    const captions = embedCaptions(ops, scope(ops, params, "text"), vocabularySize, ids);
    const logits = ops.div(ops.matmul(pictures, captions, { transposeB: true }), temperature); // [pictures, captions]
    const own = ops.div(ops.sum(ops.mul(pictures, captions), { axes: [1] }), temperature);
    // Logits are at most 1 / temperature: their exponentials need no shift.
    const logSums = [0, 1].map((axis) => ops.log(ops.sum(ops.exp(logits), { axes: [axis] })));
    const loss = ops.mean(ops.sub(ops.mul(ops.add(logSums[0]!, logSums[1]!), 0.5), own));
    const best = ops.max(logits, { axes: [1] });
    const accuracy = ops.mean(ops.cast(ops.less(ops.sub(best, own), 1e-4), "float32"));
    return { loss, accuracy };
  };
}

/** Blur by a Gaussian of 1.5 pixels [batch, channels, 64, 64]. Chosen: visible, yet every concept stays recognisable. */
export function gaussianBlur<T>(ops: Ops<T>, images: T): T {
  const kernel = new Float32Array(imageSize * imageSize);
  for (let row = 0; row < imageSize; row++) {
    const weights = Array.from({ length: imageSize }, (_, column) => Math.exp(-(((row - column) / 1.5) ** 2) / 2));
    const total = weights.reduce((sum, weight) => sum + weight);
    weights.forEach((weight, column) => (kernel[row * imageSize + column] = weight / total));
  }
  const matrix = ops.constant(kernel, [imageSize, imageSize]);
  return ops.matmul(matrix, ops.matmul(images, matrix, { transposeB: true }));
}

/** Names, shapes and initialisations of the parameters of `captionTraining`. */
export function captionModelParameters(vocabularySize: number): Record<string, ParameterSpec> {
  return declareParameters(
    (ops, p, { images, ids }) => [
      embedImages(ops, p.at("image"), images),
      embedCaptions(ops, p.at("text"), vocabularySize, ids),
    ],
    { images: imageSpec(1), ids: promptSpec(1) },
  );
}
