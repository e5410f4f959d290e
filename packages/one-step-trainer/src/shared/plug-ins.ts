import type { HostTensor, Ops, Scope, TensorMap, Signal } from "@sdxs/tensor";
import { oneStepSample, type OneStepConversion } from "@sdxs/diffusion";

/** The conditioning of a sample. */
export interface Conditioning<T> {
  /** Text embeddings [batch, tokens, features]. */
  readonly context: T;
  /** A condition image, as edges for a ControlNet: [batch, channels, height, width]. Absent in trainings without one. */
  readonly condition?: T;
}

/** The inputs of a diffusion network. */
export interface NetworkInputs<T> extends Conditioning<T> {
  /** x_t [batch, channels, height, width] */
  readonly sample: T;
  /** float32 [batch], in the units of the noise schedule (0 to 999). */
  readonly timestep: T;
}

/**
 * A diffusion network: its prediction of the noise, the velocity or the clean sample, shaped as `sample`. The score of
 * p_t follows from it. Any function that takes its parameters from the scope is suitable.
 */
export type ScoreFunction = <T>(ops: Ops<T>, p: Scope<T>, inputs: NetworkInputs<T>) => T;

/**
 * A diffusion network in another runtime: a session of an ONNX file, another framework, another process. Only its
 * predictions are used, so it needs no gradients.
 *
 * @example
 * const offlineScore: ExternalScore = {
 *   async predict({ sample, timestep, context }) {
 *     const { output } = await session.run({ sample: toOrt(sample), timestep: toOrt(timestep), context: toOrt(context) });
 *     return HostTensor.from(sample.shape, output.data);
 *   },
 * };
 */
export interface ExternalScore {
  /**
   * Its prediction of the noise, the velocity or the clean sample, shaped as `sample` [n, channels, height, width], for
   * timesteps [n] and contexts [n, tokens, features], and a condition where there is one. With guidance n is twice the
   * batch: first the empty prompts.
   */
  predict(inputs: NetworkInputs<HostTensor>): Promise<HostTensor>;
}

/** x_theta: noise [batch, channels, height, width] and its conditioning, to clean samples, shaped as the noise. */
export type Generator = <T>(ops: Ops<T>, p: Scope<T>, inputs: Conditioning<T> & { readonly noise: T }) => T;

/** A program that passes `condition` to its networks if it is among its inputs. */
export type ConditionableProgram<In extends string, Out extends string> = <T>(
  ops: Ops<T>,
  params: TensorMap<T>,
  inputs: Readonly<Record<In, T>> & Pick<Conditioning<T>, "condition">,
) => Readonly<Record<Out, T>>;

/** An encoder f whose intermediate maps [batch, channels, ...positions] are compared: a U-Net's encoder half, a CNN, a ViT. */
export type FeatureExtractor = <T>(ops: Ops<T>, p: Scope<T>, inputs: NetworkInputs<T>) => readonly T[];

/** A batch of noise and the teacher's samples of it, each [batch, ...sampleShape]. */
export interface NoiseImageBatch {
  readonly noise: HostTensor;
  readonly target: HostTensor;
}

/**
 * psi(x_phi(epsilon)): the teacher's images of the noises `first`, `first + 1`, ... for contexts [batch, tokens, features].
 * The same for the same indices; see `noiseImagePairs`.
 */
export type Sampler = (contexts: HostTensor, first: number, signal?: Signal) => Promise<NoiseImageBatch>;

/**
 * A diffusion network as a one-step generator: one evaluation at the conversion's timestep.
 *
 * @example
 * const student = oneStepGenerator(network, oneStepConversion(noiseSchedule()));
 */
export function oneStepGenerator(network: ScoreFunction, conversion: OneStepConversion): Generator {
  return (ops, p, { noise, ...conditioning }) => {
    const output = network(ops, p, {
      sample: conversion.input === 1 ? noise : ops.mul(noise, conversion.input),
      timestep: ops.broadcastTo(ops.scalar(conversion.timestep), ops.shape(noise).slice(0, 1)),
      ...conditioning,
    });
    return oneStepSample(ops, noise, output, conversion);
  };
}
