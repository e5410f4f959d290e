import type { NamedAttrMap, Tensor4D } from "@tensorflow/tfjs";
import { hasKernel, runPair, type PairOperation, type Tensor, type TensorFlow } from "./lazy.js";

type Sides = readonly [top: number, bottom: number, left: number, right: number];

interface Window {
  readonly [setting: string]: number | readonly number[];
  readonly stride: number;
  /** [top, bottom, left, right] */
  readonly padding: Sides;
  /** [height, width] of the convolution's image. */
  readonly image: readonly [number, number];
  /** [height, width] of its kernel. */
  readonly kernel: readonly [number, number];
}

/**
 * Convolution of NCHW images with OIHW weights, differentiable any number of times.
 *
 * A convolution and its two gradients are bilinear and close under differentiation: the gradients
 * of each are the other two.
 */
export function convolve(tf: TensorFlow, x: Tensor, weight: Tensor, stride: number, padding: Sides): Tensor {
  const [, , height = 0, width = 0] = x.shape;
  const [, , kernelHeight = 0, kernelWidth = 0] = weight.shape;
  return runPair(tf, convolution, x, weight, {
    stride,
    padding,
    image: [height, width],
    kernel: [kernelHeight, kernelWidth],
  });
}

const convolution: PairOperation<Window> = {
  name: "SdxsConv2D",
  forward(tf, x, weight, { stride, padding }) {
    const y = tf.conv2d(toNhwc(tf, x), toHwio(tf, weight), stride, explicit(padding));
    return toNchw(tf, y);
  },
  gradientA: (tf, dy, _x, weight, window) => runPair(tf, inputGradient, dy, weight, window),
  gradientB: (tf, dy, x, _weight, window) => runPair(tf, weightGradient, x, dy, window),
};

/** Gradient of the convolution's image from that of its result and the weight. */
const inputGradient: PairOperation<Window> = {
  name: "SdxsConv2DInputGradient",
  forward(tf, dy, weight, { stride, padding, image, kernel }) {
    const [batch = 0] = dy.shape;
    const channels = weight.shape[1] ?? 0;
    if (hasGradientKernels(tf)) {
      const size: [number, number, number, number] = [batch, image[0], image[1], channels];
      return toNchw(tf, tf.conv2dTranspose(toNhwc(tf, dy), toHwio(tf, weight), size, stride, explicit(padding)));
    }
    // A convolution with the flipped kernel over the gradient, spread out by the stride.
    const flipped = tf.reverse(tf.transpose(weight as Tensor4D, [2, 3, 0, 1]), [0, 1]); // [kh, kw, Co, Ci]
    const spread = dilate(tf, toNhwc(tf, dy), stride);
    const [, spreadHeight, spreadWidth] = spread.shape;
    const top = kernel[0] - 1 - padding[0];
    const left = kernel[1] - 1 - padding[2];
    const bottom = image[0] + kernel[0] - 1 - spreadHeight - top;
    const right = image[1] + kernel[1] - 1 - spreadWidth - left;
    const [cropped, sides] = crop(tf, spread, [top, bottom, left, right]);
    return toNchw(tf, tf.conv2d(cropped, flipped, 1, explicit(sides)));
  },
  gradientA: (tf, ddx, _dy, weight, window) => runPair(tf, convolution, ddx, weight, window),
  gradientB: (tf, ddx, dy, _weight, window) => runPair(tf, weightGradient, ddx, dy, window),
};

/** Gradient of the convolution's weight from its image and the gradient of its result. */
const weightGradient: PairOperation<Window> = {
  name: "SdxsConv2DWeightGradient",
  forward(tf, x, dy, { stride, padding, kernel }) {
    const channels = x.shape[1] ?? 0;
    const outChannels = dy.shape[1] ?? 0;
    if (hasGradientKernels(tf)) {
      const inputs = { x: toNhwc(tf, x), dy: toNhwc(tf, dy) };
      const filterShape = [kernel[0], kernel[1], channels, outChannels];
      const attributes = { strides: [stride, stride], pad: explicit(padding), dataFormat: "NHWC", filterShape };
      // Explicit padding is a list of lists, which the declared attribute type leaves out.
      const gradient: Tensor = tf
        .engine()
        .runKernel(tf.Conv2DBackpropFilter, inputs, attributes as object as NamedAttrMap);
      return tf.transpose(gradient, [3, 2, 0, 1]);
    }
    // A convolution with channels as the batch, the batch as channels and the gradient as a kernel dilated by the stride.
    const images = tf.transpose(x as Tensor4D, [1, 2, 3, 0]); // [Ci, H, W, N]
    const kernels = tf.transpose(dy as Tensor4D, [2, 3, 0, 1]); // [outHeight, outWidth, N, Co]
    const gradient = tf.conv2d(images, kernels, 1, explicit(padding), "NHWC", stride);
    // Rows and columns of the image that the stride skips at the end make it larger.
    const cut = tf.slice(gradient, [0, 0, 0, 0], [channels, kernel[0], kernel[1], outChannels]);
    return tf.transpose(cut, [3, 0, 1, 2]);
  },
  gradientA: (tf, ddw, _x, dy, window) => runPair(tf, inputGradient, dy, ddw, window),
  gradientB: (tf, ddw, x, _dy, window) => runPair(tf, convolution, x, ddw, window),
};

/**
 * Whether the backend has a kernel for a convolution's weight gradient. Wasm has not, and its kernel for
 * the input gradient takes 6 to 9 times as long as the same product written as a convolution (measured:
 * 128 to 128 channels, 3 x 3, at [4, 128, 32, 32]).
 */
function hasGradientKernels(tf: TensorFlow): boolean {
  return hasKernel(tf, tf.Conv2DBackpropFilter);
}

const toNhwc = (tf: TensorFlow, x: Tensor): Tensor4D => tf.transpose(x as Tensor4D, [0, 2, 3, 1]);
const toNchw = (tf: TensorFlow, x: Tensor): Tensor4D => tf.transpose(x as Tensor4D, [0, 3, 1, 2]);
const toHwio = (tf: TensorFlow, weight: Tensor): Tensor4D => tf.transpose(weight as Tensor4D, [2, 3, 1, 0]);

type ExplicitPadding = [[number, number], [number, number], [number, number], [number, number]];

const explicit = ([top, bottom, left, right]: Sides): ExplicitPadding => [
  [0, 0],
  [top, bottom],
  [left, right],
  [0, 0],
];

/** Puts stride - 1 zeros after each row and each column of an NHWC image. */
function dilate(tf: TensorFlow, x: Tensor4D, stride: number): Tensor4D {
  if (stride === 1) return x;
  const [batch, height, width, channels] = x.shape;
  // The zeros after a pixel are further channels of it, those after a row are further rows.
  const rows = tf.reshape(x, [batch * height, 1, width, channels]);
  const padded = tf.pad(rows, [
    [0, 0],
    [0, stride - 1],
    [0, 0],
    [0, (stride - 1) * channels],
  ]);
  return tf.reshape(padded, [batch, height * stride, width * stride, channels]);
}

/** Cuts off the sides with negative padding. Gives the rest and the padding that is left to do. */
function crop(tf: TensorFlow, x: Tensor4D, sides: Sides): readonly [Tensor4D, Sides] {
  if (sides.every((side) => side >= 0)) return [x, sides];
  const [top, bottom, left, right] = sides.map((side) => Math.max(0, -side)) as [number, number, number, number];
  const [batch, height, width, channels] = x.shape;
  const rest = tf.slice(x, [0, top, left, 0], [batch, height - top - bottom, width - left - right, channels]);
  const [padTop, padBottom, padLeft, padRight] = sides.map((side) => Math.max(0, side)) as [
    number,
    number,
    number,
    number,
  ];
  return [rest, [padTop, padBottom, padLeft, padRight]];
}
