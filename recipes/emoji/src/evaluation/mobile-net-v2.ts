import { convLayer, declareParameters, type Ops, type ParameterSpec, type Scope } from "@sdxs/tensor";

/** Channels and stride of the output of each block: arXiv:1801.04381, Table 2, as far as block 13 of 16. */
const blocks = [
  { channels: 16, stride: 1 },
  { channels: 24, stride: 2 },
  { channels: 24, stride: 1 },
  { channels: 32, stride: 2 },
  { channels: 32, stride: 1 },
  { channels: 32, stride: 1 },
  { channels: 64, stride: 2 },
  { channels: 64, stride: 1 },
  { channels: 64, stride: 1 },
  { channels: 64, stride: 1 },
  { channels: 96, stride: 1 },
  { channels: 96, stride: 1 },
  { channels: 96, stride: 1 },
  { channels: 160, stride: 2 },
] as const;

/** Inside a block there are six times the channels of its input; the first block alone does not expand. */
const expansion = 6;

/** Channels that share one dense convolution in `depthwise`. Chosen: divides all widths, and fills a vector register. */
export const depthwiseGroup = 16;

/** Height and width of the network's input in pixels. */
export const inputSize = 224;

/**
 * MobileNetV2 (arXiv:1801.04381) without its last three blocks and its head, each batch normalisation folded into the
 * convolution before it. Parameters have the names of Keras' layers: "Conv1", "expanded_conv_depthwise",
 * "block_1_expand", ...
 *
 * @param images [batch, 3, 224, 224], red first, in the range that the weights were trained for
 * @returns the output of each of the 14 blocks [batch, channels, h, w]: 112 pixels at first, 7 at last
 */
export function mobileNetV2<T>(ops: Ops<T>, p: Scope<T>, images: T): T[] {
  let x = relu6(ops, convLayer(ops, p.at("Conv1"), images, 32, { stride: 2, padding: stridedPadding }));
  return blocks.map((block, index) => (x = invertedResidual(ops, p, x, { ...block, index })));
}

/** A block: expand, convolve each channel alone, project; around it a residual where the shape stays. */
function invertedResidual<T>(
  ops: Ops<T>,
  p: Scope<T>,
  x: T,
  { index, channels, stride }: { readonly index: number; readonly channels: number; readonly stride: 1 | 2 },
): T {
  const name = index === 0 ? "expanded_conv" : `block_${index}`;
  const [, inputChannels = 1] = ops.shape(x);
  const expand = (): T =>
    relu6(ops, convLayer(ops, p.at(`${name}_expand`), x, expansion * inputChannels, { kernel: 1 }));
  const wide = index === 0 ? x : expand();
  const filtered = relu6(ops, depthwise(ops, p.at(`${name}_depthwise`), wide, stride));
  const projected = convLayer(ops, p.at(`${name}_project`), filtered, channels, { kernel: 1 });
  return stride === 1 && inputChannels === channels ? ops.add(x, projected) : projected;
}

/**
 * A 3x3 convolution of each channel alone, as dense ones of `depthwiseGroup` channels whose weights are zero between
 * different channels: parameters "0.weight" [16, 16, 3, 3], "0.bias" [16], "1.weight", ...
 */
function depthwise<T>(ops: Ops<T>, p: Scope<T>, x: T, stride: 1 | 2): T {
  const [, channels = 1] = ops.shape(x);
  const groups = Array.from({ length: channels / depthwiseGroup }, (_, group) => {
    const part = ops.slice(x, 1, group * depthwiseGroup, depthwiseGroup);
    const padding = stride === 2 ? stridedPadding : 1;
    return convLayer(ops, p.at(group), part, depthwiseGroup, { stride, padding });
  });
  return ops.concat(groups, 1);
}

/** Keras pads an image of even size below and at the right alone where the stride is 2. */
const stridedPadding = [0, 1, 0, 1] as const;

function relu6<T>(ops: Ops<T>, x: T): T {
  return ops.minimum(ops.relu(x), 6);
}

/** Names and shapes of the parameters of `mobileNetV2`; nothing is computed. */
export function mobileNetV2Parameters(): Record<string, ParameterSpec> {
  return declareParameters((ops, p, { images }) => mobileNetV2(ops, p, images), {
    images: { shape: [1, 3, inputSize, inputSize] },
  });
}
