import { HostTensor, random, zeros, type Ops, type Scope, type Shape } from "@sdxs/tensor";
import { gatherNoiseLevels, type NoiseSchedule } from "@sdxs/diffusion";
import type { ScoreFunction } from "@sdxs/one-step-trainer";

/** One part of a distribution of points in the plane: a round Gaussian. */
export interface Component {
  readonly weight: number;
  readonly mean: readonly [number, number];
  /** Standard deviation along each axis. */
  readonly deviation: number;
}

/** Points are samples [batch, 2, 1, 1]. */
export const pointShape: Shape = [2, 1, 1];

/** `count` points of a mixture, the same for the same stream of numbers. */
export function samplePoints(mixture: readonly Component[], count: number, ...stream: (string | number)[]): HostTensor {
  const which = random("component", ...stream).uniform([count]).data;
  const noise = random("point", ...stream).normal([count, 2]).data;
  const points = new Float32Array(2 * count);
  which.forEach((value, i) => {
    const { mean, deviation } = componentAt(mixture, value);
    points[2 * i] = mean[0] + deviation * (noise[2 * i] ?? 0);
    points[2 * i + 1] = mean[1] + deviation * (noise[2 * i + 1] ?? 0);
  });
  return new HostTensor([count, ...pointShape], points);
}

function componentAt(mixture: readonly Component[], share: number): Component {
  let sum = 0;
  for (const component of mixture) {
    sum += component.weight;
    if (share < sum) return component;
  }
  return mixture[mixture.length - 1]!;
}

/**
 * The exact score of a mixture under noise, as the prediction of the clean point: with x_t = alpha x_0 + sigma n, component
 * k has x_t ~ N(alpha mu_k, v_k) and E[x_0 | x_t, k] = mu_k + alpha s_k^2 / v_k (x_t - alpha mu_k), where
 * v_k = alpha^2 s_k^2 + sigma^2; the prediction is their mean under the components' probabilities given x_t.
 * Parameters: "means" [components, 2], "logDeviations" and "logWeights" [components].
 */
export function mixtureScore(schedule: NoiseSchedule, components: number): ScoreFunction {
  return <T>(ops: Ops<T>, p: Scope<T>, { sample, timestep }: { readonly sample: T; readonly timestep: T }) => {
    const level = gatherNoiseLevels(ops, schedule, timestep);
    const alpha = ops.reshape(level.alpha, [-1, 1]);
    const sigma = ops.reshape(level.sigma, [-1, 1]);
    const means = ops.reshape(p.param("means", [components, 2], zeros), [1, components, 2]);
    const variances = ops.exp(ops.mul(p.param("logDeviations", [components], zeros), 2)); // s_k^2
    const logWeights = p.param("logWeights", [components], zeros);

    const point = ops.reshape(sample, [-1, 1, 2]);
    const noisyVariances = ops.add(ops.mul(ops.square(alpha), variances), ops.square(sigma)); // v_k [batch, components]
    const wide = (x: T): T => ops.reshape(x, [-1, ops.shape(x)[1]!, 1]);
    const offset = ops.sub(point, ops.mul(wide(alpha), means)); // [batch, components, 2]
    const squares = ops.sum(ops.square(offset), { axes: [2] });
    const logDensities = ops.sub(
      ops.sub(logWeights, ops.log(noisyVariances)),
      ops.div(squares, ops.mul(noisyVariances, 2)),
    );
    const shares = ops.softmax(logDensities, 1);
    const shrink = ops.div(ops.mul(alpha, variances), noisyVariances);
    const clean = ops.add(means, ops.mul(wide(shrink), offset));
    return ops.reshape(ops.sum(ops.mul(wide(shares), clean), { axes: [1] }), ops.shape(sample));
  };
}

/** Parameters of `mixtureScore` that make it a mixture's. */
export function mixtureParameters(mixture: readonly Component[]): Record<string, HostTensor> {
  const per = (of: (component: Component) => number): HostTensor => HostTensor.from([mixture.length], mixture.map(of));
  return {
    means: HostTensor.from(
      [mixture.length, 2],
      mixture.flatMap(({ mean }) => [...mean]),
    ),
    logDeviations: per(({ deviation }) => Math.log(deviation)),
    logWeights: per(({ weight }) => Math.log(weight)),
  };
}

/** Mean, covariance and shares of the components of points [count, 2, 1, 1], each point counted to the nearest mean. */
export interface Moments {
  readonly mean: readonly [number, number];
  /** xx, xy, yy */
  readonly covariance: readonly [number, number, number];
  readonly weights: readonly number[];
}

export function momentsOf({ data }: HostTensor, mixture: readonly Component[]): Moments {
  const count = data.length / 2;
  const sums = [0, 0, 0, 0, 0] as [number, number, number, number, number];
  const weights = mixture.map(() => 0);
  for (let i = 0; i < data.length; i += 2) {
    const [x, y] = [data[i] ?? 0, data[i + 1] ?? 0];
    [x, y, x * x, x * y, y * y].forEach((value, k) => (sums[k]! += value / count));
    const distances = mixture.map(({ mean }) => Math.hypot(x - mean[0], y - mean[1]));
    weights[distances.indexOf(Math.min(...distances))]! += 1 / count;
  }
  const [x, y, xx, xy, yy] = sums;
  return { mean: [x, y], covariance: [xx - x * x, xy - x * y, yy - y * y], weights };
}

/** The same of the mixture itself; shares counted as for points would differ by points that are nearer to another's mean. */
export function exactMoments(mixture: readonly Component[]): Moments {
  const sum = (of: (component: Component) => number): number =>
    mixture.reduce((total, component) => total + component.weight * of(component), 0);
  const mean: [number, number] = [sum((c) => c.mean[0]), sum((c) => c.mean[1])];
  const spread = sum((c) => c.deviation ** 2);
  return {
    mean,
    covariance: [
      spread + sum((c) => (c.mean[0] - mean[0]) ** 2),
      sum((c) => (c.mean[0] - mean[0]) * (c.mean[1] - mean[1])),
      spread + sum((c) => (c.mean[1] - mean[1]) ** 2),
    ],
    weights: mixture.map(({ weight }) => weight),
  };
}

/**
 * Energy distance of two sets of points (Székely and Rizzo 2013): 2 E|X - Y| - E|X - X'| - E|Y - Y'|, 0 only for one
 * distribution.
 */
export function energyDistance(a: HostTensor, b: HostTensor): number {
  return 2 * meanDistance(a, b) - meanDistance(a, a) - meanDistance(b, b);
}

function meanDistance({ data: a }: HostTensor, { data: b }: HostTensor): number {
  let sum = 0;
  for (let i = 0; i < a.length; i += 2) {
    for (let j = 0; j < b.length; j += 2) sum += Math.hypot(a[i]! - b[j]!, a[i + 1]! - b[j + 1]!);
  }
  return sum / ((a.length / 2) * (b.length / 2));
}
