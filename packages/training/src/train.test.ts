import { describe, expect, it, vi } from "vitest";
import { HostTensor, SdxsError } from "@sdxs/tensor";
import { memoryCheckpoints, type Checkpoint, type CheckpointStore } from "./checkpoint-store.js";
import { memoryLog } from "./metrics-log.js";
import { train } from "./train.js";
import type { TrainingTask } from "./training-task.js";

/** Halves a number in each step; the loss is the number. */
function halving(options: Partial<TrainingTask> = {}): TrainingTask & { readonly calls: number[] } {
  let value = 1024;
  const calls: number[] = [];
  return {
    name: "halving",
    steps: 8,
    calls,
    async step(step) {
      calls.push(step);
      value /= 2;
      return { loss: value };
    },
    async state() {
      return { value: HostTensor.scalar(value) };
    },
    restore(state) {
      value = state.value!.item();
    },
    dispose() {},
    ...options,
  };
}

/** A store that notes the steps it was given. */
function observed(store: CheckpointStore): CheckpointStore & { readonly saved: number[] } {
  const saved: number[] = [];
  return {
    saved,
    save(checkpoint: Checkpoint) {
      saved.push(checkpoint.step);
      return store.save(checkpoint);
    },
    newest: () => store.newest(),
  };
}

describe("train", () => {
  it("runs every step once, in order, and saves as often as asked and at the end", async () => {
    const task = halving();
    const checkpoints = observed(memoryCheckpoints());
    const result = await train(task, { checkpoints, checkpointEverySteps: 3 });
    expect(result).toEqual({ step: 8, resumedFrom: 0 });
    expect(task.calls).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(checkpoints.saved).toEqual([3, 6, 8]);
    const newest = await checkpoints.newest();
    expect(newest).toMatchObject({ step: 8, metadata: { task: "halving" } });
    expect(newest?.state.value?.item()).toBe(4); // 1024 / 2 ** 8
  });

  it("saves once the seconds have passed", async () => {
    const checkpoints = observed(memoryCheckpoints());
    const now = vi.spyOn(performance, "now");
    let clockMs = 0;
    now.mockImplementation(() => clockMs);
    const task = halving({
      async step() {
        clockMs += 400;
        return {};
      },
    });
    try {
      await train(task, { checkpoints, checkpointEverySeconds: 1 });
    } finally {
      now.mockRestore();
    }
    expect(checkpoints.saved).toEqual([3, 6, 8]); // at 1.2 s and 2.4 s, and the end
  });

  it("resumes from the newest checkpoint and does nothing where the training is complete", async () => {
    const checkpoints = memoryCheckpoints();
    await train(halving({ steps: 5 }), { checkpoints });
    const task = halving();
    expect(await train(task, { checkpoints })).toEqual({ step: 8, resumedFrom: 5 });
    expect(task.calls).toEqual([5, 6, 7]);
    const complete = halving();
    expect(await train(complete, { checkpoints })).toEqual({ step: 8, resumedFrom: 8 });
    expect(complete.calls).toEqual([]);
    expect((await complete.state()).value?.item()).toBe(4);
  });

  it("refuses another task's checkpoint", async () => {
    const checkpoints = memoryCheckpoints();
    await train(halving({ name: "first stage" }), { checkpoints });
    await expect(train(halving(), { checkpoints })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining('"first stage"'),
    });
  });

  it("saves upon abort, says so, and goes on from there the next time", async () => {
    const checkpoints = memoryCheckpoints();
    const controller = new AbortController();
    const first = train(halving(), {
      checkpoints,
      signal: controller.signal,
      onProgress: ({ step }) => step === 3 && controller.abort("enough"),
    });
    await expect(first).rejects.toMatchObject({
      code: "ABORTED",
      cause: "enough",
      message: expect.stringContaining("after 3 of 8 steps. It is saved"),
    });
    const task = halving();
    expect(await train(task, { checkpoints })).toEqual({ step: 8, resumedFrom: 3 });
    expect((await task.state()).value?.item()).toBe(4);
  });

  it("saves the state before a step that was itself aborted", async () => {
    const checkpoints = memoryCheckpoints();
    const controller = new AbortController();
    const task = halving();
    const run = task.step.bind(task);
    task.step = async (step, signal) => {
      if (step !== 2) return run(step, signal);
      controller.abort();
      throw new SdxsError("ABORTED", "in the middle");
    };
    await expect(train(task, { checkpoints, signal: controller.signal })).rejects.toMatchObject({ code: "ABORTED" });
    expect(await checkpoints.newest()).toMatchObject({ step: 2 });
  });

  it("lets a timer abort steps that never wait", async () => {
    const signal = AbortSignal.timeout(30);
    const endless = halving({
      steps: Infinity,
      async step() {
        return {};
      },
    });
    await expect(train(endless, { signal })).rejects.toMatchObject({
      code: "ABORTED",
      message: expect.stringContaining("not saved"),
    });
  });

  it("does not save after a step that failed", async () => {
    const checkpoints = observed(memoryCheckpoints());
    const failing = halving({
      async step(step) {
        if (step === 5) throw new SdxsError("NON_FINITE", "loss");
        return {};
      },
    });
    const result = train(failing, { checkpoints, checkpointEverySteps: 2 });
    await expect(result).rejects.toMatchObject({ code: "NON_FINITE" });
    expect(checkpoints.saved).toEqual([2, 4]);
  });

  it("keeps a history without gaps or duplicates over a crash", async () => {
    const checkpoints = memoryCheckpoints();
    const log = memoryLog();
    let crash = true;
    const task = (): TrainingTask => {
      const inner = halving();
      const run = inner.step.bind(inner);
      inner.step = async (step) => {
        if (step === 5 && crash) throw new Error("crash");
        return run(step);
      };
      return inner;
    };
    const options = { checkpoints, log, checkpointEverySteps: 3 };
    await expect(train(task(), options)).rejects.toThrow("crash");
    expect((await log.rows()).map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);
    crash = false;
    await train(task(), options);
    const rows = await log.rows();
    expect(rows.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(rows.map(({ metrics }) => metrics.loss)).toEqual([512, 256, 128, 64, 32, 16, 8, 4]);
  });

  it("validates every so many steps and after the last", async () => {
    const log = memoryLog();
    const validate = { everySteps: 3, run: (step: number) => ({ error: step * 10 }) };
    await train(halving(), { log, validate });
    const validated = (await log.rows()).filter(({ metrics }) => "validation.error" in metrics);
    expect(validated).toEqual([
      { step: 3, metrics: { loss: 128, "validation.error": 30 } },
      { step: 6, metrics: { loss: 16, "validation.error": 60 } },
      { step: 8, metrics: { loss: 4, "validation.error": 80 } },
    ]);
  });

  it("tells where it stands", async () => {
    const now = vi.spyOn(performance, "now");
    let clockMs = 1000;
    now.mockImplementation(() => clockMs);
    const checkpoints = memoryCheckpoints();
    await train(halving({ steps: 2 }), { checkpoints });
    const task = halving({ samplesPerStep: 16 });
    const run = task.step.bind(task);
    task.step = (step) => ((clockMs += 500), run(step));
    const seen: unknown[] = [];
    try {
      await train(task, { checkpoints, onProgress: (progress) => seen.push(progress) });
    } finally {
      now.mockRestore();
    }
    expect(seen).toHaveLength(6);
    expect(seen[1]).toEqual({
      step: 4,
      steps: 8,
      samples: 64,
      rate: 2,
      elapsedMs: 1000,
      remainingMs: 2000,
      metrics: { loss: 64 },
      // (0.98 * 0.02 * 128 + 0.02 * 64) / (0.98 * 0.02 + 0.02)
      smoothedLoss: expect.closeTo(95.6768, 4),
    });
  });

  it("refuses intervals that make no sense", async () => {
    await expect(train(halving(), { checkpointEverySteps: 0.5 })).rejects.toThrow(
      "checkpointEverySteps must be a whole",
    );
    await expect(train(halving(), { checkpointEverySeconds: 0 })).rejects.toThrow(
      "checkpointEverySeconds must be above",
    );
    const validate = { everySteps: 0, run: () => ({}) };
    await expect(train(halving(), { validate })).rejects.toThrow("validate.everySteps must be a whole number");
  });
});
