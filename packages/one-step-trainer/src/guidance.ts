import { InvalidArgumentError, ShapeError, type HostTensor, type Shape } from "@sdxs/tensor";

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
