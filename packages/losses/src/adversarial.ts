import { ShapeError, tensorShape, unknownName, type Ops } from "@sdxs/tensor";
import { checkSameShape, meanPerSample } from "./per-sample.js";

/**
 * The GAN loss of a discriminator's logits.
 * hinge: arXiv:1705.02894, as ADD and StyleGAN-T train with. non-saturating: arXiv:1406.2661, Section 3.
 * least-squares: arXiv:1611.04076, Equation 9.
 */
export type AdversarialLoss = "hinge" | "non-saturating" | "least-squares";

/**
 * The discriminator's side of a GAN:
 *
 *     hinge           max(0, 1 - real) + max(0, 1 + fake)
 *     non-saturating  -log sigmoid(real) - log(1 - sigmoid(fake))
 *     least-squares   ((real - 1)^2 + fake^2) / 2
 *
 * averaged over each sample's logits. Stop the gradient of the generated images that the logits come from.
 *
 * @param realLogits [batch, ...], one or many per sample, any range
 * @param fakeLogits same shape
 * @returns [batch]
 *
 * Throws `ShapeError` where the shapes differ.
 *
 * @example
 * const fake = discriminate(ops.stopGradient(decoded));
 * const loss = ops.mean(discriminatorLoss(ops, "hinge", discriminate(images), fake));
 */
export function discriminatorLoss<T>(ops: Ops<T>, kind: AdversarialLoss, realLogits: T, fakeLogits: T): T {
  checkSameShape(ops, "discriminatorLoss", realLogits, fakeLogits, 1);
  return meanPerSample(ops, ops.add(judge(ops, kind, realLogits, true), judge(ops, kind, fakeLogits, false)));
}

/**
 * The generator's side of a GAN:
 *
 *     hinge           -fake
 *     non-saturating  -log sigmoid(fake)
 *     least-squares   (fake - 1)^2 / 2
 *
 * averaged over each sample's logits.
 *
 * @param fakeLogits [batch, ...], one or many per sample, any range
 * @returns [batch]
 *
 * Throws `ShapeError` for a scalar.
 *
 * @example
 * const adversarial = ops.mul(generatorLoss(ops, "hinge", discriminate(decoded)), 0.1);
 * const loss = ops.mean(vaeDistillationLoss(ops, decoded, image, { adversarial }));
 */
export function generatorLoss<T>(ops: Ops<T>, kind: AdversarialLoss, fakeLogits: T): T {
  if (tensorShape(ops, "generatorLoss", "fakeLogits", fakeLogits).length === 0) {
    throw new ShapeError("generatorLoss: logits must be [batch, ...], got a scalar. Keep the batch's axis.");
  }
  return meanPerSample(ops, kind === "hinge" ? ops.neg(fakeLogits) : judge(ops, kind, fakeLogits, true));
}

/** The loss of each logit whose label is "real" or "fake". */
function judge<T>(ops: Ops<T>, kind: AdversarialLoss, logits: T, real: boolean): T {
  switch (kind) {
    case "hinge":
      return ops.relu(real ? ops.sub(1, logits) : ops.add(1, logits));
    case "non-saturating":
      return softplus(ops, real ? ops.neg(logits) : logits);
    case "least-squares":
      return ops.mul(ops.square(real ? ops.sub(logits, 1) : logits), 0.5);
  }
  throw unknownName("An adversarial loss", "kind", kind, ["hinge", "non-saturating", "least-squares"]);
}

/** log(1 + exp(x)), which does not overflow. (x + |x|) / 2 instead of relu, for the slope of 1/2 at 0. */
function softplus<T>(ops: Ops<T>, x: T): T {
  const size = ops.abs(x);
  const positive = ops.mul(ops.add(x, size), 0.5);
  return ops.add(positive, ops.log(ops.add(ops.exp(ops.neg(size)), 1)));
}
