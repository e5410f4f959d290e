import type { Ops } from "../core/ops.js";

/** x * sigmoid(x). Any shape. */
export function silu<T>(ops: Ops<T>, x: T): T {
  return ops.fused?.silu?.(x) ?? ops.mul(x, ops.sigmoid(x));
}

/** Exact GELU, x * Phi(x). Any shape. */
export function gelu<T>(ops: Ops<T>, x: T): T {
  return ops.fused?.gelu?.(x) ?? ops.mul(ops.mul(x, 0.5), ops.add(ops.erf(ops.mul(x, Math.SQRT1_2)), 1));
}

/** x * sigmoid(1.702 x), CLIP-L's activation. Any shape. */
export function quickGelu<T>(ops: Ops<T>, x: T): T {
  return ops.mul(x, ops.sigmoid(ops.mul(x, 1.702)));
}

/** x [..., in] times weight [out, in] transposed, plus bias [out]. */
export function linear<T>(ops: Ops<T>, x: T, weight: T, bias: T | undefined): T {
  if (ops.fused?.linear) return ops.fused.linear(x, weight, bias);
  const shape = ops.shape(x);
  const rows = ops.reshape(x, [-1, shape.at(-1) ?? 1]);
  const product = ops.matmul(rows, weight, { transposeB: true });
  const shifted = bias === undefined ? product : ops.add(product, bias);
  return ops.reshape(shifted, [...shape.slice(0, -1), ops.shape(weight)[0] ?? 1]);
}

/** Group normalisation over [N, C, ...] with affine weight and bias [C]. */
export function groupNorm<T>(ops: Ops<T>, x: T, groups: number, weight: T, bias: T, epsilon: number): T {
  if (ops.fused?.groupNorm) return ops.fused.groupNorm(x, groups, weight, bias, epsilon);
  const shape = ops.shape(x);
  const [batch = 1, channels = 1] = shape;
  const grouped = ops.reshape(x, [batch, groups, -1]); // [batch, groups, channels / groups * pixels]
  const normalized = ops.reshape(standardize(ops, grouped, epsilon), shape);
  const perChannel = [1, channels, ...shape.slice(2).map(() => 1)];
  return ops.add(ops.mul(normalized, ops.reshape(weight, perChannel)), ops.reshape(bias, perChannel));
}

/** Layer normalisation over the last axis with affine weight and bias of its size. */
export function layerNorm<T>(ops: Ops<T>, x: T, weight: T, bias: T, epsilon: number): T {
  if (ops.fused?.layerNorm) return ops.fused.layerNorm(x, weight, bias, epsilon);
  return ops.add(ops.mul(standardize(ops, x, epsilon), weight), bias);
}

/** (x - mean) / sqrt(variance + epsilon) over the last axis. */
function standardize<T>(ops: Ops<T>, x: T, epsilon: number): T {
  const last = { axes: [-1], keepDims: true };
  const centered = ops.sub(x, ops.mean(x, last));
  const variance = ops.mean(ops.square(centered), last);
  return ops.div(centered, ops.sqrt(ops.add(variance, epsilon)));
}

/** Most scores that `attention` holds at once: chosen, 8 MiB, which takes little memory beside any model's weights. */
const MOST_SCORES = 2 ** 21;

/**
 * softmax(scale * query key^T + mask) value.
 * query [batch, heads, tokens, head], key and value [batch, heads, contextTokens, head];
 * the additive mask broadcasts to [batch, heads, tokens, contextTokens].
 *
 * Each query's row is computed by itself: where there are more scores than `mostScores`, as between the pixels of large
 * images, some queries at a time, which gives the same and needs memory for these alone.
 */
export function attention<T>(
  ops: Ops<T>,
  query: T,
  key: T,
  value: T,
  scale: number,
  mask?: T,
  mostScores = MOST_SCORES,
): T {
  if (ops.fused?.attention) return ops.fused.attention(query, key, value, scale, mask);
  const attend = (queries: T, masks: T | undefined): T => attentionAtOnce(ops, queries, key, value, scale, masks);
  const [batch = 1, heads = 1, tokens = 1] = ops.shape(query);
  const rows = Math.max(1, Math.floor(mostScores / (batch * heads * (ops.shape(key)[2] ?? 1))));
  if (tokens <= rows) return attend(query, mask);
  // The mask's axis of queries, unless it is the same for all.
  const axis = mask === undefined ? -1 : ops.shape(mask).length - 2;
  const isShared = mask === undefined || axis < 0 || ops.shape(mask)[axis] === 1;
  const blocks = Array.from({ length: Math.ceil(tokens / rows) }, (_, block) => {
    const begin = block * rows;
    const count = Math.min(rows, tokens - begin);
    return attend(ops.slice(query, 2, begin, count), isShared ? mask : ops.slice(mask, axis, begin, count));
  });
  return ops.concat(blocks, 2);
}

/** `attention` of all queries at once, whatever memory that needs. */
export function attentionAtOnce<T>(ops: Ops<T>, query: T, key: T, value: T, scale: number, mask?: T): T {
  const scores = ops.matmul(ops.mul(query, scale), key, { transposeB: true });
  return ops.matmul(ops.softmax(mask === undefined ? scores : ops.add(scores, mask), -1), value);
}

/**
 * Attention by several heads at once, each with its share of the features and scores scaled by the root of their number.
 *
 * @param query [batch, tokens, features], already projected; features divisible by `heads`
 * @param key [batch, contextTokens, features]
 * @param value shaped as `key`
 * @param mask additive, broadcasts to [batch, heads, tokens, contextTokens]
 * @returns [batch, tokens, features], to be projected
 */
export function multiHeadAttention<T>(ops: Ops<T>, query: T, key: T, value: T, heads: number, mask?: T): T {
  const [batch = 1, tokens = 1, features = 1] = ops.shape(query);
  const headFeatures = features / heads;
  const split = (x: T): T => ops.transpose(ops.reshape(x, [batch, -1, heads, headFeatures]), [0, 2, 1, 3]); // [batch, heads, tokens, head]
  const attended = attention(ops, split(query), split(key), split(value), headFeatures ** -0.5, mask);
  return ops.reshape(ops.transpose(attended, [0, 2, 1, 3]), [batch, tokens, features]);
}

/**
 * `block()`, whose intermediate results are computed again for the gradient instead of being kept in memory
 * (gradient checkpointing, https://arxiv.org/abs/1604.06174): less memory for up to a third more arithmetic. Values and
 * gradients stay the same, and gradients flow to whatever tensors `block` uses.
 *
 * `block` must be pure, and must not use variables that change later: it is called again for the gradient. Where that
 * gradient is not finite, those of all that the block uses may not be finite either. The tfjs adapter computes `block`
 * once and keeps everything.
 *
 * @example
 * for (const index of [0, 1, 2]) {
 *   const input = h;
 *   h = gradientCheckpoint(ops, () => residualBlock(ops, p.at(index), input));
 * }
 */
export function gradientCheckpoint<T>(ops: Ops<T>, block: () => T): T {
  return ops.fused?.gradientCheckpoint?.(block) ?? block();
}
