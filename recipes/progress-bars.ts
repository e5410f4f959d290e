import { MultiBar, Presets, type SingleBar } from "cli-progress";
import type { Metrics } from "@sdxs/training";

/** Where a stage of the work stands. */
export interface StageProgress {
  /** Done, of `steps`. */
  readonly step: number;
  readonly steps: number;
  readonly metrics: Metrics;
}

/** A bar for each stage, with rate, time left and loss; plain lines every ten seconds where the output is no terminal. */
export function progressBars(): {
  readonly update: (stage: string, progress: StageProgress) => void;
  readonly stop: () => void;
} {
  const meters = new Map<string, { readonly began: number; readonly first: number }>();
  const bars = new Map<string, SingleBar>();
  const shown = new Map<string, number>();
  const multi = process.stdout.isTTY
    ? new MultiBar(
        {
          format: "{stage} {bar} {value}/{total} | {rate}/s | {left} left | {loss}",
          hideCursor: true,
          barsize: 24,
          fps: 4,
        },
        Presets.shades_classic,
      )
    : undefined;

  const update = (stage: string, { step, steps, metrics }: StageProgress): void => {
    const now = performance.now();
    const meter = meters.get(stage) ?? { began: now, first: step };
    meters.set(stage, meter);
    const rate = (step - meter.first) / ((now - meter.began) / 1000);
    const loss = metrics["loss"];
    const payload = {
      stage: stage.padEnd(20),
      rate: Number.isFinite(rate) ? rate.toFixed(1) : "-",
      left: Number.isFinite(rate) && rate > 0 ? minutes((steps - step) / rate) : "-",
      loss: loss === undefined ? "" : `loss ${loss.toFixed(4)}`,
    };
    if (multi) {
      let bar = bars.get(stage);
      if (!bar) bars.set(stage, (bar = multi.create(steps, step, payload)));
      bar.update(step, payload);
    } else if (step === steps || now - (shown.get(stage) ?? -Infinity) > 10_000) {
      shown.set(stage, now);
      console.log(`${payload.stage} ${step}/${steps} | ${payload.rate}/s | ${payload.left} left | ${payload.loss}`);
    }
  };
  return { update, stop: () => multi?.stop() };
}

function minutes(seconds: number): string {
  const whole = Math.ceil(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
