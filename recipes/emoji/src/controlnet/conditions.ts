import { canny, distanceToEdge } from "@sdxs/controlnet";
import { HostTensor } from "@sdxs/tensor";

/** Conditions [batch, 3, 64, 64] from 0 to 1, extracted from pictures [batch, 3, 64, 64] in [-1, 1]. */
export const conditions = {
  edges: (images: HostTensor) => canny(images),
  depth: (images: HostTensor) => distanceToEdge(foreground(images)),
} as const satisfies Record<string, (images: HostTensor) => HostTensor>;

export type ConditionKind = keyof typeof conditions;
export const conditionKinds = Object.keys(conditions) as readonly ConditionKind[];

/** Chosen: prompts say what is shown and how; in pictures that fill the image, as the teacher's do, they all but say where. */
export const placements = { minimumScale: 0.55, maximumShift: 12 };

/** Of a channel, in [-1, 1]. Chosen: above what the decoder makes of a plain background, below the nearest colours' distance. */
const backgroundTolerance = 0.3;

/**
 * Which pixels belong to the thing shown: those unlike the background, which is the median of the border's.
 *
 * @param images [batch, 3, height, width]
 * @returns [batch, 1, height, width], 1 inside
 */
export function foreground(images: HostTensor): HostTensor {
  const [batch = 0, channels = 0, height = 0, width = 0] = images.shape;
  const area = height * width;
  const mask = new Float32Array(batch * area);
  for (let row = 0; row < batch; row++) {
    for (let channel = 0; channel < channels; channel++) {
      const plane = images.data.subarray((row * channels + channel) * area, (row * channels + channel + 1) * area);
      const border = Array.from(plane).filter((_, i) => {
        const [y, x] = [Math.floor(i / width), i % width];
        return y === 0 || x === 0 || y === height - 1 || x === width - 1;
      });
      const background = border.sort((a, b) => a - b)[border.length >> 1] ?? 0;
      plane.forEach((value, i) => {
        if (Math.abs(value - background) > backgroundTolerance) mask[row * area + i] = 1;
      });
    }
  }
  return new HostTensor([batch, 1, height, width], mask);
}

/**
 * How far things shown lie in the same place, whatever is inside their outlines: pixels in both silhouettes of those in
 * either, the mean over pictures.
 *
 * @param images [batch, 3, height, width]
 * @param others of the same shape
 * @returns from 0 to 1
 */
export function silhouetteOverlap(images: HostTensor, others: HostTensor): number {
  const [a, b] = [silhouettes(images), silhouettes(others)];
  const overlaps = a.map((mask, row) => {
    const other = b[row]!;
    const count = (holds: (i: number) => boolean): number => mask.reduce((sum, _, i) => sum + (holds(i) ? 1 : 0), 0);
    const either = count((i) => mask[i]! + other[i]! > 0);
    return either === 0 ? 1 : count((i) => mask[i]! + other[i]! === 2) / either;
  });
  return overlaps.reduce((sum, overlap) => sum + overlap / overlaps.length, 0);
}

/** Of each picture, 1 where the border cannot be reached through the background. */
function silhouettes(images: HostTensor): readonly Uint8Array[] {
  const { shape, data } = foreground(images);
  const [batch = 0, , height = 0, width = 0] = shape;
  return Array.from({ length: batch }, (_, row) => {
    const inside = data.subarray(row * height * width, (row + 1) * height * width);
    const silhouette = new Uint8Array(height * width).fill(1);
    const open: number[] = [];
    const reach = (y: number, x: number): void => {
      const i = y * width + x;
      if (y < 0 || x < 0 || y >= height || x >= width || silhouette[i] === 0 || inside[i]! > 0) return;
      silhouette[i] = 0;
      open.push(i);
    };
    for (let y = 0; y < height; y++) for (const x of [0, width - 1]) reach(y, x);
    for (let x = 0; x < width; x++) for (const y of [0, height - 1]) reach(y, x);
    for (let i = open.pop(); i !== undefined; i = open.pop()) {
      const [y, x] = [Math.floor(i / width), i % width];
      reach(y - 1, x);
      reach(y + 1, x);
      reach(y, x - 1);
      reach(y, x + 1);
    }
    return silhouette;
  });
}

/**
 * How well edges lie on those given, over all pictures: the harmonic mean of precision and recall, where an edge may be off
 * by one pixel in any direction.
 *
 * @param found edges [batch, 3, height, width], 1 at edges, as `canny` gives them
 * @param given of the same shape
 * @returns from 0 to 1
 */
export function edgeF1(found: HostTensor, given: HostTensor): number {
  const precision = shareNear(found, given);
  const recall = shareNear(given, found);
  return precision + recall === 0 ? 0 : (2 * precision * recall) / (precision + recall);
}

/** Of the edges, how many have one of the others within a pixel; 0 where there are none. */
function shareNear(edges: HostTensor, others: HostTensor): number {
  const [batch = 0, channels = 1, height = 0, width = 0] = edges.shape;
  let [count, near] = [0, 0];
  for (let row = 0; row < batch; row++) {
    const first = row * channels * height * width; // all channels are equal
    const isEdge = ({ data }: HostTensor, y: number, x: number): boolean =>
      y >= 0 && x >= 0 && y < height && x < width && data[first + y * width + x]! > 0;
    const around = [-1, 0, 1];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (!isEdge(edges, y, x)) continue;
        count++;
        if (around.some((dy) => around.some((dx) => isEdge(others, y + dy, x + dx)))) near++;
      }
    }
  }
  return count === 0 ? 0 : near / count;
}

/** Mean absolute difference of two tensors of one shape. */
export function meanDifference(a: HostTensor, b: HostTensor): number {
  let sum = 0;
  for (let i = 0; i < a.data.length; i++) sum += Math.abs(a.data[i]! - b.data[i]!);
  return sum / a.data.length;
}

/** Conditions from 0 to 1 as pictures in [-1, 1]. */
export function asPicture({ shape, data }: HostTensor): HostTensor {
  return new HostTensor(
    shape,
    Float32Array.from(data, (value) => 2 * value - 1),
  );
}
