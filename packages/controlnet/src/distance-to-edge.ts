import { HostTensor, InvalidArgumentError, ShapeError, hostShape, sizeOf } from "@sdxs/tensor";

/**
 * A condition that stands in for depth where no depth is known: how far inside a shape each pixel is, as if shapes bulged
 * towards the viewer. The exact Euclidean distance to the nearest pixel outside, 0 outside, over the image's largest.
 *
 * P. Felzenszwalb and D. Huttenlocher, "Distance Transforms of Sampled Functions", Theory of Computing 8 (2012).
 *
 * @param masks [batch, 1, height, width]: above 0 inside the shape
 * @returns [batch, 3, height, width] from 0 to 1, brighter where nearer, as the depth ControlNets expect. An image that is
 * all inside is 1, one that is all outside 0.
 *
 * Throws `ShapeError` for other shapes, `InvalidArgumentError` for a NaN.
 *
 * @example
 * const condition = distanceToEdge(alpha); // the image's transparency
 */
export function distanceToEdge(masks: HostTensor): HostTensor {
  const [batch = 0, channels, height = 0, width = 0, ...more] = hostShape("distanceToEdge", "masks", masks);
  if (channels !== 1 || more.length > 0 || sizeOf(masks.shape) === 0) {
    throw new ShapeError(`distanceToEdge: expected masks [batch, 1, height, width], got [${masks.shape.join(", ")}].`);
  }
  if (masks.data.some(Number.isNaN)) throw new InvalidArgumentError("distanceToEdge: a mask holds NaN.");
  const area = height * width;
  const result = new Float32Array(3 * masks.data.length);
  for (let row = 0; row < batch; row++) {
    const squares = Float64Array.from(masks.data.subarray(row * area, (row + 1) * area), (inside) =>
      inside > 0 ? Infinity : 0,
    );
    // The squared distance is a sum over the axes: columns first, then rows over the columns' results.
    for (let j = 0; j < width; j++) transformLine(squares, j, width, height);
    for (let i = 0; i < height; i++) transformLine(squares, i * width, 1, width);
    const largest = squares.reduce((a, b) => Math.max(a, b), 0);
    const shades = Float32Array.from(squares, (square) =>
      largest === Infinity ? 1 : Math.sqrt(square / (largest || 1)),
    );
    for (let channel = 0; channel < 3; channel++) result.set(shades, (3 * row + channel) * area);
  }
  return new HostTensor([batch, 3, height, width], result);
}

/** min over q of (p - q)^2 + f(q) for every p of a line, in place: the lower envelope of parabolas. */
function transformLine(values: Float64Array, first: number, step: number, length: number): void {
  const f = Float64Array.from({ length }, (_, q) => values[first + q * step]!);
  const vertices: number[] = []; // of the parabolas in the envelope
  const begins: number[] = []; // where each of them becomes the lowest
  for (let q = 0; q < length; q++) {
    if (f[q] === Infinity) continue;
    let begin = -Infinity;
    for (let last = vertices.at(-1); last !== undefined; last = vertices.at(-1)) {
      begin = (f[q]! + q * q - f[last]! - last * last) / (2 * (q - last));
      if (begin > begins.at(-1)!) break;
      vertices.pop();
      begins.pop();
      begin = -Infinity;
    }
    vertices.push(q);
    begins.push(begin);
  }
  if (vertices.length === 0) return;
  let at = 0;
  for (let p = 0; p < length; p++) {
    while (at + 1 < vertices.length && begins[at + 1]! < p) at++;
    const q = vertices[at]!;
    values[first + p * step] = (p - q) ** 2 + f[q]!;
  }
}
