import { HostTensor, random } from "@sdxs/tensor";
import { maxAbsError, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import {
  applyStep,
  boundaryScalingsAt,
  combineHost,
  consistencySample,
  guided,
  lcm,
  noiseSchedule,
  type PredictionType,
} from "./index.js";

describe("boundaryScalingsAt", () => {
  it("leaves a sample at timestep 0 as it is", () => {
    expect(boundaryScalingsAt(0)).toEqual({ skip: 1, out: 0 });
  });

  it("is the published formula, computed by hand", () => {
    // s = 10: 0.25 / 100.25 and 10 / sqrt(100.25)
    expect(boundaryScalingsAt(1).skip).toBeCloseTo(0.00249377, 8);
    expect(boundaryScalingsAt(1).out).toBeCloseTo(0.99875234, 8);
    // s = 0.5: a half, and the square root of a half
    expect(boundaryScalingsAt(50, 0.01).skip).toBeCloseTo(0.5, 10);
    expect(boundaryScalingsAt(50, 0.01).out).toBeCloseTo(Math.SQRT1_2, 10);
  });
});

describe.each(testBackends)("consistency functions on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });
  const schedule = noiseSchedule();
  const noisy = random(1).normal([3, 2, 4]);
  const output = random(2).normal([3, 2, 4]);

  it.each(["epsilon", "v_prediction", "sample"] as const satisfies readonly PredictionType[])(
    "are what one step of LCM gives, and the sample itself at timestep 0: %s",
    async (prediction) => {
      const { sample } = await run(
        (ops, _, data) => ({
          sample: consistencySample(ops, data.noisy, data.output, data.timestep, { schedule, prediction }),
        }),
        {},
        { noisy, output, timestep: HostTensor.from([3], [999, 999, 0]) },
      );
      const [step] = lcm(schedule, { steps: 1, prediction }).steps;
      const { sample: expected } = applyStep(combineHost, step!, { sample: noisy, history: [] }, output);
      expected.data.set(noisy.data.subarray(16), 16);
      expect(maxAbsError(sample, expected)).toBeLessThan(1e-5 * 14.6); // float32, amplified by epsilon's factor
    },
  );

  it("guide each sample by a scale of its own", async () => {
    const { result } = await run(
      (ops, _, data) => ({ result: guided(ops, data.noisy, data.output, ops.reshape(data.scale, [3, 1, 1])) }),
      {},
      { noisy, output, scale: HostTensor.from([3], [0, 1, 2]) },
    );
    const expected = noisy.data.map((without, i) => without + Math.floor(i / 8) * (output.data[i]! - without));
    expect(maxAbsError(result, HostTensor.from([3, 2, 4], expected))).toBeLessThan(1e-5);
  });
});
