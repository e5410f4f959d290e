import { InvalidArgumentError, ShapeError, type HostTensor, type Shape } from "@sdxs/tensor";
import { combineHost } from "@sdxs/diffusion";
import { concatenate, halves, stack } from "./host-batches.js";
import type { ExternalScore, NetworkInputs } from "./plug-ins.js";

/** Classifier-free guidance away from the empty prompt. */
export interface Guidance {
  /** 1 is none. */
  readonly scale: number;
  /** Context of the empty prompt [tokens, features]. */
  readonly unconditional: HostTensor;
}

/**
 * The guidance, or undefined where it changes nothing.
 *
 * @throws InvalidArgumentError for a scale that is not finite, ShapeError where the empty prompt is no such context.
 */
export function activeGuidance(
  where: string,
  guidance: Guidance | undefined,
  contextShape: Shape,
): Guidance | undefined {
  if (guidance === undefined || guidance.scale === 1) return undefined;
  const { scale, unconditional } = guidance;
  if (!Number.isFinite(scale)) {
    throw new InvalidArgumentError(`${where}: guidance.scale must be a finite number, got ${scale}.`);
  }
  if (unconditional.shape.join() === contextShape.join()) return guidance;
  throw new ShapeError(
    `${where}: guidance.unconditional must be [${contextShape.join(", ")}] as one context, ` +
      `got [${unconditional.shape.join(", ")}].`,
  );
}

/** A prediction away from that for the empty prompt. Both are one batch; a condition guides both. */
export async function guidedPrediction(
  where: string,
  score: ExternalScore,
  guidance: Guidance | undefined,
  inputs: NetworkInputs<HostTensor>,
): Promise<HostTensor> {
  const { sample, timestep, context, condition } = inputs;
  const [batch = 0, ...contextShape] = context.shape;
  const active = activeGuidance(where, guidance, contextShape);
  if (active === undefined) return score.predict(inputs);
  const { scale, unconditional } = active;
  const outputs = await score.predict({
    sample: concatenate(sample, sample),
    timestep: concatenate(timestep, timestep),
    context: concatenate(stack(Array<HostTensor>(batch).fill(unconditional)), context),
    ...(condition !== undefined && { condition: concatenate(condition, condition) }),
  });
  const [without, withPrompt] = halves(outputs);
  return combineHost([
    [1 - scale, without],
    [scale, withPrompt],
  ]);
}
