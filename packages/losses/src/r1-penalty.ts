import { InvalidArgumentError, ShapeError, kindOf, tensorShape, type Ops } from "@sdxs/tensor";
import { sumPerSample } from "./per-sample.js";

/**
 * The zero-centred gradient penalty R1 that keeps a discriminator smooth around real images
 * (arXiv:1801.04406, Equation 9, without its weight gamma):
 *
 *     R1 = 1/2 || dD/dx ||_2^2
 *
 * where D(x) is the sum of a sample's logits. It is a gradient by the images within the gradient by the discriminator's
 * parameters, so call it inside of the function that is differentiated.
 *
 * @param discriminate gives the logits [batch, ...] of images; samples must not mix, as batch normalisation would
 * @param images real ones, [batch, ...], or features of them
 * @returns [batch]
 *
 * Throws `ShapeError` where there is not one row of logits per sample.
 *
 * @example
 * const penalty = r1Penalty(ops, (x) => discriminator(ops, p, x), images);
 * const loss = ops.mean(ops.add(discriminatorLoss(ops, "hinge", real, fake), ops.mul(penalty, 1e-5))); // ADD's gamma
 */
export function r1Penalty<T>(ops: Ops<T>, discriminate: (images: T) => T, images: T): T {
  const [batch] = tensorShape(ops, "r1Penalty", "images", images);
  if (typeof discriminate !== "function") {
    throw new InvalidArgumentError(
      `r1Penalty: expected a function of images to logits, discriminate, got ${kindOf(discriminate)}.`,
    );
  }
  const total = ({ images }: Readonly<Record<string, T>>) => {
    const logits = discriminate(images!);
    const shape = ops.shape(logits);
    if (batch === undefined || shape[0] !== batch) {
      throw new ShapeError(
        `r1Penalty: images and logits must be [batch, ...], got [${ops.shape(images!).join(", ")}] and [${shape.join(", ")}]. ` +
          `Give the logits before they are averaged over the batch.`,
      );
    }
    return { loss: ops.sum(logits), aux: {} };
  };
  const { grads } = ops.valueAndGrad(total, { images });
  return ops.mul(sumPerSample(ops, ops.square(grads["images"]!)), 0.5);
}
