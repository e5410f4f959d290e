import { InvalidArgumentError, ShapeError } from "./errors.js";

/** Sizes of the axes, outermost first. `[]` is a scalar. */
export type Shape = readonly number[];

/** Element types of the interface. Booleans are stored as bytes 0 and 1. */
export type DType = "float32" | "int32" | "bool";

export type HostData = Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

/** Number of elements of a shape. */
export function sizeOf(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * A tensor in the memory of JavaScript: row-major, contiguous.
 *
 * @example
 * const image = new HostTensor([1, 3, 2, 2], new Float32Array(12));
 */
export class HostTensor {
  readonly shape: Shape;
  readonly data: HostData;
  readonly dtype: DType;

  constructor(shape: Shape, data: HostData) {
    if (shape.some((size) => !Number.isInteger(size) || size < 0)) {
      throw new ShapeError(`HostTensor: a shape has whole sizes of at least 0, got [${shape.join(", ")}].`);
    }
    if (sizeOf(shape) !== data.length) {
      throw new ShapeError(
        `HostTensor: shape [${shape.join(", ")}] needs ${sizeOf(shape)} elements, the data has ${data.length}.`,
      );
    }
    this.shape = shape;
    this.data = data;
    if (data instanceof Float32Array) this.dtype = "float32";
    else if (data instanceof Int32Array) this.dtype = "int32";
    else if (data instanceof Uint8Array) this.dtype = "bool";
    else throw new InvalidArgumentError("HostTensor: data must be a Float32Array, Int32Array or Uint8Array (bool).");
  }

  /** A float32 tensor whose elements are copied from numbers. */
  static from(shape: Shape, values: ArrayLike<number>): HostTensor {
    return new HostTensor(shape, Float32Array.from(values));
  }

  /** A float32 tensor of one value. */
  static filled(shape: Shape, value: number): HostTensor {
    return new HostTensor(shape, new Float32Array(sizeOf(shape)).fill(value));
  }

  /** A float32 scalar. */
  static scalar(value: number): HostTensor {
    return HostTensor.from([], [value]);
  }

  /** The value of a tensor with exactly one element. */
  item(): number {
    const [value] = this.data;
    if (this.data.length !== 1 || value === undefined) {
      throw new ShapeError(`HostTensor.item: expected one element, the shape is [${this.shape.join(", ")}].`);
    }
    return value;
  }
}
