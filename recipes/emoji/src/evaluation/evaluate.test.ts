import * as ort from "onnxruntime-node";
import { random, type HostTensor } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { beforeAll, describe, expect, it } from "vitest";
import { takeRows } from "@sdxs/training";
import { quickstartColours, quickstartConcepts, quickstartStyles } from "../quickstart-subset.js";
import { captionAgreement } from "./caption-agreement.js";
import { evaluatePictures, evaluationTable, loadEvaluationSet, type EvaluationSet } from "./evaluate.js";
import { loadJudge } from "./judge.js";
import { noisePictures } from "./limits.js";

const backend = onnxBackend({ ort, threads: 1 });

describe("the evaluation", () => {
  let set: EvaluationSet;
  let prompts: string[];
  let reference: HostTensor;
  let real: HostTensor;
  beforeAll(async () => {
    set = await loadEvaluationSet();
    // Every 25th combination: all of them take half a minute.
    const rows = Array.from({ length: 32 }, (_, row) => 25 * row);
    prompts = rows.map((row) => set.prompts[row]!);
    real = takeRows(set.pictures(1), rows);
    reference = await (await loadJudge(backend)).features(takeRows(set.pictures(0), rows));
  });

  it("asks for every concept in every style on every background once", () => {
    const combinations = quickstartConcepts.length * quickstartStyles.length * quickstartColours.length;
    expect(set.combinations.length).toBe(combinations);
    expect(new Set(set.prompts).size).toBe(combinations);
    expect(set.openPrompts.length).toBe(combinations / quickstartStyles.length);
    expect(set.openPrompts).toContain("a red apple, on a blue background");
  });

  it("finds the artists' pictures placed otherwise near, those of other prompts in disagreement, and noise far", async () => {
    const same = await evaluatePictures(backend, real, reference, prompts);
    const others = await captionAgreement(backend, real, [...prompts.slice(1), prompts[0]!]);
    const noise = await evaluatePictures(backend, noisePictures(random(1), real.shape), reference, prompts);
    expect(same.precision).toBe(1);
    expect(same.recall).toBe(1);
    expect(same.captionAgreement).toBeGreaterThan(0.9);
    expect(others).toBeLessThan(0.1);
    expect(noise).toMatchObject({ precision: 0, recall: 0 });
    expect(noise.captionAgreement).toBeLessThan(0.2);
    expect(noise.frechet).toBeGreaterThan(10 * same.frechet);
  });

  it("refuses prompts that do not belong to the images", async () => {
    await expect(evaluatePictures(backend, real, reference, prompts.slice(1))).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });
});

describe("evaluationTable", () => {
  it("has a line for each evaluation", () => {
    const evaluation = { frechet: 1.234, precision: 0.5, recall: 1, captionAgreement: 0.125 };
    expect(evaluationTable([{ label: "student", evaluation }]).split("\n")[2]).toBe(
      "| student | 1.23 | 50.0% | 100.0% | 12.5% |",
    );
  });
});
