import { describe, expect, it } from "vitest";
import { constantSchedule, cosineSchedule, polynomialSchedule, warmupSchedule } from "./schedules.js";

describe("schedules", () => {
  it("is constant", () => {
    expect([0, 1, 1e6].map(constantSchedule(3e-4))).toEqual([3e-4, 3e-4, 3e-4]);
  });

  it("rises linearly from 0 during the warm-up", () => {
    const schedule = warmupSchedule({ rate: 1e-3, warmupSteps: 4 });
    expect([0, 1, 2, 3, 4, 100].map(schedule)).toEqual([0, 0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3]);
  });

  it("follows half a cosine after the warm-up and stays at its end", () => {
    const schedule = cosineSchedule({ rate: 1, warmupSteps: 2, totalSteps: 10 });
    // (1 + cos(pi * (step - 2) / 8)) / 2
    const expected: [number, number][] = [
      [1, 0.5],
      [2, 1],
      [4, 0.8535533905932737],
      [6, 0.5],
      [8, 0.1464466094067262],
      [10, 0],
      [99, 0],
    ];
    for (const [step, rate] of expected) expect(schedule(step)).toBeCloseTo(rate, 12);
    expect(cosineSchedule({ rate: 1, totalSteps: 10, finalRate: 0.1 })(5)).toBeCloseTo(0.55, 12);
  });

  it("falls as a power of what is left", () => {
    const schedule = polynomialSchedule({ rate: 1, totalSteps: 10, finalRate: 0.2, power: 2 });
    expect([0, 5, 10, 20].map(schedule)).toEqual([1, 0.4, 0.2, 0.2]);
    expect(polynomialSchedule({ rate: 2, warmupSteps: 2, totalSteps: 6 })(4)).toBe(1);
  });

  it("refuses rates and lengths that make no schedule", () => {
    expect(() => constantSchedule(NaN)).toThrow(/rate/);
    expect(() => warmupSchedule({ rate: 1, warmupSteps: -1 })).toThrow(/warmupSteps/);
    expect(() => cosineSchedule({ rate: 1, warmupSteps: 10, totalSteps: 10 })).toThrow(/totalSteps/);
    expect(() => polynomialSchedule({ rate: 1, totalSteps: 10, power: 0 })).toThrow(/power/);
  });
});
