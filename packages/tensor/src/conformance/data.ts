import { HostTensor, sizeOf, type Shape } from "../core/host-tensor.js";
import { random } from "../core/random.js";

/**
 * Distinct values, evenly spaced over (-2, 2) in random order. At up to 400 elements they are at least 0.005 from
 * zero and 0.01 apart: further than numerical differences reach, so no kink (of abs, relu, max) is crossed.
 */
export function spread(shape: Shape, seed: string): HostTensor {
  const size = sizeOf(shape);
  const order = random("conformance data", seed).permutation(size);
  return HostTensor.from(
    shape,
    Array.from(order, (rank) => (4 * (rank + 0.5 - (size % 2) / 4)) / size - 2),
  );
}

/** Distinct values, evenly spaced over (0.5, 2.5) in random order. */
export function positive(shape: Shape, seed: string): HostTensor {
  return HostTensor.from(
    shape,
    Array.from(spread(shape, seed).data, (value) => 1.5 + value / 2),
  );
}

/** Whole numbers from 0 to below `limit`. */
export function wholeNumbers(shape: Shape, limit: number, seed: string): HostTensor {
  return random("conformance data", seed).integers(shape, 0, limit);
}

/** Booleans, about half of them true. */
export function booleans(shape: Shape, seed: string): HostTensor {
  return new HostTensor(shape, Uint8Array.from(wholeNumbers(shape, 2, seed).data));
}
