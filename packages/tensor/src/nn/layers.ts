import { groupNorm, layerNorm, linear } from "./functional.js";
import { fanInUniform, ones, zeros, type Initializer } from "../core/initializers.js";
import type { Conv2dOptions, Ops } from "../core/ops.js";
import type { Scope } from "./scope.js";

export interface LinearLayerOptions {
  /** Default true. */
  readonly bias?: boolean;
  /** Default: uniform by fan-in for weight and bias. */
  readonly init?: Initializer;
}

/** nn.Linear: parameters weight [out, in] and bias [out]. x [..., in] gives [..., out]. */
export function linearLayer<T>(
  ops: Ops<T>,
  p: Scope<T>,
  x: T,
  outFeatures: number,
  options: LinearLayerOptions = {},
): T {
  const inFeatures = ops.shape(x).at(-1) ?? 1;
  const init = options.init ?? fanInUniform(inFeatures);
  const weight = p.param("weight", [outFeatures, inFeatures], init);
  const bias = options.bias === false ? undefined : p.param("bias", [outFeatures], init);
  return linear(ops, x, weight, bias);
}

export interface ConvLayerOptions extends Conv2dOptions, LinearLayerOptions {
  /** Side of the square kernel. Default 3. */
  readonly kernel?: number;
}

/** nn.Conv2d: parameters weight [out, in, k, k] and bias [out]. Padding defaults to (k - 1) / 2. */
export function convLayer<T>(ops: Ops<T>, p: Scope<T>, x: T, outChannels: number, options: ConvLayerOptions = {}): T {
  const kernel = options.kernel ?? 3;
  const inChannels = ops.shape(x)[1] ?? 1;
  const init = options.init ?? fanInUniform(inChannels * kernel * kernel);
  const weight = p.param("weight", [outChannels, inChannels, kernel, kernel], init);
  const bias = options.bias === false ? undefined : p.param("bias", [outChannels], init);
  return ops.conv2d(x, weight, bias, { stride: options.stride ?? 1, padding: options.padding ?? (kernel - 1) / 2 });
}

/** nn.GroupNorm with affine parameters weight and bias [channels]. */
export function groupNormLayer<T>(ops: Ops<T>, p: Scope<T>, x: T, groups: number, epsilon: number): T {
  const channels = ops.shape(x)[1] ?? 1;
  return groupNorm(ops, x, groups, p.param("weight", [channels], ones), p.param("bias", [channels], zeros), epsilon);
}

/** nn.LayerNorm over the last axis with affine parameters weight and bias. */
export function layerNormLayer<T>(ops: Ops<T>, p: Scope<T>, x: T, epsilon = 1e-5): T {
  const features = ops.shape(x).at(-1) ?? 1;
  return layerNorm(ops, x, p.param("weight", [features], ones), p.param("bias", [features], zeros), epsilon);
}
