import { InvalidArgumentError, ParameterError } from "../core/errors.js";
import { sizeOf } from "../core/host-tensor.js";
import type { Operand, Ops, TensorMap } from "../core/ops.js";
import type { AdamWOptions } from "../core/trainable.js";
import { mapTensors } from "../core/parameters.js";

/** The options with PyTorch's defaults filled in. */
export interface ResolvedAdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  readonly clipNorm: number | undefined;
  readonly emaDecay: number | undefined;
  readonly emaWarmup: boolean;
}

/** First and second moments of the gradients and, with `emaDecay`, the averaged parameters, by parameter name. */
export interface AdamWState<T> {
  readonly m: TensorMap<T>;
  readonly v: TensorMap<T>;
  readonly averaged: TensorMap<T> | undefined;
}

/**
 * Corrections for moments that begin at zero and an average that begins at the initial parameters. Numbers, or scalar
 * tensors that a recorded graph takes as inputs.
 */
export interface BiasCorrections<T> {
  /** 1 - beta1 ** step. */
  readonly first: Operand<T>;
  /** sqrt(1 - beta2 ** step). */
  readonly secondRoot: Operand<T>;
  /** The parameters' share in the new average: 1 minus this step's decay. */
  readonly averaging: Operand<T>;
}

export interface AdamWUpdate<T> {
  readonly params: TensorMap<T>;
  /** One per parameter, of the same names and shapes. */
  readonly gradients: TensorMap<T>;
  readonly state: AdamWState<T>;
  readonly learningRate: Operand<T>;
  /** The number of this update, 1 for the first, or the corrections that follow from it. */
  readonly step: number | BiasCorrections<T>;
}

export interface AdamWResult<T> {
  readonly params: TensorMap<T>;
  readonly state: AdamWState<T>;
  /** L2 norm over all gradients before clipping, shape []. */
  readonly gradientNorm: T;
}

export interface AdamW {
  readonly options: ResolvedAdamWOptions;
  /** Zero moments; the averaged parameters begin as copies of the parameters. */
  init<T>(ops: Ops<T>, params: TensorMap<T>): AdamWState<T>;
  /** As numbers. */
  biasCorrections(step: number): BiasCorrections<never>;
  /** One update; nothing is changed in place. */
  update<T>(ops: Ops<T>, update: AdamWUpdate<T>): AdamWResult<T>;
}

/**
 * AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) as a pure function over `Ops<T>`,
 * with the arithmetic of PyTorch's `torch.optim.AdamW` and `torch.nn.utils.clip_grad_norm_`:
 *
 *     g = gradient * min(1, clipNorm / (norm + 1e-6))
 *     p = p * (1 - learningRate * weightDecay)
 *     m = beta1 * m + (1 - beta1) * g
 *     v = beta2 * v + (1 - beta2) * g^2
 *     p = p - learningRate / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon)
 *     averaged = averaged + (1 - decay) * (p - averaged)
 *
 * where decay is emaDecay or, with `emaWarmup`, that of diffusers' `EMAModel`: 0 in step 1, then min(emaDecay, step / (step + 9)).
 *
 * @throws InvalidArgumentError where an option is out of range.
 *
 * @example
 * const optimizer = adamW({ weightDecay: 0, clipNorm: 1 });
 * let state = optimizer.init(ops, params);
 * ({ params, state } = optimizer.update(ops, { params, gradients, state, learningRate: 1e-3, step: 1 }));
 */
export function adamW(options: AdamWOptions = {}): AdamW {
  const resolved = resolve(options);
  const { beta1, beta2, epsilon, weightDecay, clipNorm, emaDecay, emaWarmup } = resolved;

  const biasCorrections = (step: number): BiasCorrections<never> => {
    if (!Number.isInteger(step) || step < 1) {
      throw new InvalidArgumentError(`adamW: step is the number of this update and counts from 1, got ${step}.`);
    }
    // step - 1 is what diffusers counts: (1 + step) / (10 + step) there.
    const mostDecay = !emaWarmup ? 1 : step === 1 ? 0 : step / (step + 9);
    return {
      first: 1 - beta1 ** step,
      secondRoot: Math.sqrt(1 - beta2 ** step),
      averaging: 1 - Math.min(emaDecay ?? 0, mostDecay),
    };
  };

  return {
    options: resolved,
    biasCorrections,

    init(ops, params) {
      const zeros = (param: (typeof params)[string]) =>
        ops.constant(new Float32Array(sizeOf(ops.shape(param))), ops.shape(param));
      return {
        m: mapTensors(params, zeros),
        v: mapTensors(params, zeros),
        // A sum makes a new tensor, so that parameters and averages can be disposed of separately.
        averaged: emaDecay === undefined ? undefined : mapTensors(params, (param) => ops.add(param, 0)),
      };
    },

    update(ops, { params, gradients, state, learningRate, step }) {
      checkNames("gradients", params, gradients);
      checkNames("moments", params, state.m);
      const corrections = typeof step === "number" ? biasCorrections(step) : step;
      const { keep, stepSize } = scales(ops, learningRate, corrections.first, weightDecay);

      const gradientNorm = globalNorm(ops, gradients);
      // 1e-6: torch.nn.utils.clip_grad_norm_.
      const scale = clipNorm === undefined ? undefined : ops.minimum(ops.div(clipNorm, ops.add(gradientNorm, 1e-6)), 1);

      const nextParams: Record<string, typeof gradientNorm> = {};
      const m: Record<string, typeof gradientNorm> = {};
      const v: Record<string, typeof gradientNorm> = {};
      const averaged: Record<string, typeof gradientNorm> = {};
      for (const [name, param] of Object.entries(params)) {
        const gradient = scale === undefined ? gradients[name]! : ops.mul(gradients[name]!, scale);
        const first = ops.add(ops.mul(state.m[name]!, beta1), ops.mul(gradient, 1 - beta1));
        const second = ops.add(ops.mul(state.v[name]!, beta2), ops.mul(ops.square(gradient), 1 - beta2));
        const denominator = ops.add(ops.div(ops.sqrt(second), corrections.secondRoot), epsilon);
        const next = ops.sub(ops.mul(param, keep), ops.mul(ops.div(first, denominator), stepSize));
        nextParams[name] = next;
        m[name] = first;
        v[name] = second;
        if (emaDecay !== undefined) {
          const before = state.averaged?.[name] ?? param;
          averaged[name] = ops.add(before, ops.mul(ops.sub(next, before), corrections.averaging));
        }
      }
      return {
        params: nextParams,
        state: { m, v, averaged: emaDecay === undefined ? undefined : averaged },
        gradientNorm,
      };
    },
  };
}

/** Factor of a parameter by decay, and the size of its step; float64 where everything is a number. */
function scales<T>(
  ops: Ops<T>,
  learningRate: Operand<T>,
  firstCorrection: Operand<T>,
  weightDecay: number,
): { keep: Operand<T>; stepSize: Operand<T> } {
  const bothNumbers = typeof learningRate === "number" && typeof firstCorrection === "number";
  return {
    keep:
      typeof learningRate === "number"
        ? 1 - learningRate * weightDecay
        : ops.sub(1, ops.mul(learningRate, weightDecay)),
    stepSize: bothNumbers ? learningRate / firstCorrection : ops.div(learningRate, firstCorrection),
  };
}

function globalNorm<T>(ops: Ops<T>, gradients: TensorMap<T>): T {
  const squares = Object.values(gradients).map((gradient) => ops.sum(ops.square(gradient)));
  return ops.sqrt(squares.reduce((total, square) => ops.add(total, square), ops.scalar(0)));
}

function checkNames<T>(what: string, params: TensorMap<T>, others: TensorMap<T>): void {
  const missing = Object.keys(params).filter((name) => !Object.hasOwn(others, name));
  const extra = Object.keys(others).filter((name) => !Object.hasOwn(params, name));
  if (missing.length === 0 && extra.length === 0) return;
  throw new ParameterError(
    missing.length > 0 ? "MISSING_PARAMETER" : "UNEXPECTED_PARAMETER",
    `adamW: the ${what} must have the parameters' names; missing: ${missing.join(", ") || "none"}; ` +
      `unexpected: ${extra.join(", ") || "none"}.`,
  );
}

/** Defaults of torch.optim.AdamW. */
function resolve(options: AdamWOptions): ResolvedAdamWOptions {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0.01 } = options;
  const { clipNorm, emaDecay, emaWarmup = false } = options;
  const demand = (name: string, value: number, holds: boolean, range: string): void => {
    if (!holds) throw new InvalidArgumentError(`adamW: ${name} must be ${range}, got ${value}.`);
  };
  demand("beta1", beta1, beta1 >= 0 && beta1 < 1, "in [0, 1)");
  demand("beta2", beta2, beta2 >= 0 && beta2 < 1, "in [0, 1)");
  demand("epsilon", epsilon, epsilon >= 0 && epsilon < Infinity, "a finite number of at least 0");
  demand("weightDecay", weightDecay, weightDecay >= 0 && weightDecay < Infinity, "a finite number of at least 0");
  if (clipNorm !== undefined)
    demand("clipNorm", clipNorm, clipNorm > 0 && clipNorm < Infinity, "a finite number above 0");
  if (emaDecay !== undefined) demand("emaDecay", emaDecay, emaDecay >= 0 && emaDecay < 1, "in [0, 1)");
  return { beta1, beta2, epsilon, weightDecay, clipNorm, emaDecay, emaWarmup };
}
