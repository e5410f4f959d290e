import type { HostTensor } from "@sdxs/tensor";

/**
 * Warnings about the metrics of a score distillation, as sentences; none if it is healthy.
 *
 * The limits are chosen: above a score gap of 1.5 the online DM is further from the offline one than the samples are, and
 * its gradient is of no use; a spread below 0.5 means that samples of different noises and prompts have become alike; a
 * discriminator whose loss is below 0.1 (1.4 or 2 is that of guessing) gives the student no useful gradient.
 *
 * @param metrics of one step of this package's tasks, or smoothed over several
 *
 * @example
 * train(task, { onProgress: ({ metrics }) => distillationWarnings(metrics).forEach((text) => console.warn(text)) });
 */
export function distillationWarnings(metrics: Readonly<Record<string, number>>): string[] {
  const gap = metrics["student.scoreGap"] ?? 0;
  const spread = metrics["student.spread"] ?? metrics["online.spread"] ?? metrics["lora.spread"] ?? 1;
  const discrimination = metrics["discriminator.adversarial"] ?? metrics["online.adversarial"] ?? 1;
  const warnings: string[] = [];
  if (gap > 1.5) {
    warnings.push(
      `The online and the offline score have drifted apart (gap ${gap.toFixed(2)}): give the online DM more updates per ` +
        `step (onlineUpdates), or lower the student's learning rate.`,
    );
  }
  if (spread < 0.5) {
    warnings.push(
      `The student's samples vary ${spread.toFixed(2)} times as much as the teacher's, as if they collapsed: raise lambdaFM, ` +
        `lower lambdaGan or the guidance scale, or go back to an earlier checkpoint.`,
    );
  }
  if (discrimination < 0.1) {
    warnings.push(
      `The discriminator distinguishes samples from real ones without errors (loss ${discrimination.toFixed(2)}): lower its learning ` +
        `rate, raise r1Weight, or give it fewer feature maps.`,
    );
  }
  return warnings;
}

/**
 * The share of values at or beyond the ends of their range, which grows where distillation or guidance overdoes contrast.
 *
 * @param images any shape
 * @param range default [-1, 1], that of decoded images
 * @returns in [0, 1]
 */
export function saturatedShare({ data }: HostTensor, [low, high]: readonly [number, number] = [-1, 1]): number {
  let count = 0;
  for (const value of data) if (value <= low || value >= high) count++;
  return count / data.length;
}
