import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { conformanceCases, fromBackend, runCase, runConformance, type ConformanceAdapter } from "./conformance.js";
import { mapTensors, type Ops } from "./index.js";
import { onnxBackend } from "./onnx.js";
import { fromHost, referenceOps, toHost, type ReferenceTensor } from "./reference.js";

const adapterOf = (ops: Ops<ReferenceTensor>): ConformanceAdapter => ({
  name: "under test",
  evaluate: (program, params, inputs) =>
    Promise.resolve(mapTensors(program(ops, mapTensors(params, fromHost), mapTensors(inputs, fromHost)), toHost)),
});
const values = (name: string): boolean => name.startsWith("value of");

describe("the conformance suite", () => {
  test("passes the reference, which it measures by, in every case that needs no gradient", async () => {
    const results = await runConformance(adapterOf(referenceOps), { only: values });
    expect(results.length).toBeGreaterThan(200);
    expect(results.filter(({ ok }) => !ok)).toEqual([]);
  });

  test("names every case differently", () => {
    const names = conformanceCases().map(({ name }) => name);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });

  test("finds a wrong value, and only where the wrong operation is used", async () => {
    const flipped: Ops<ReferenceTensor> = { ...referenceOps, floor: (x) => referenceOps.neg(x) };
    const results = await runConformance(adapterOf(flipped), { only: values });
    expect(results.filter(({ ok }) => !ok).map((result) => result.case)).toEqual(["value of floor"]);
  });

  test("finds a NaN", async () => {
    const broken: Ops<ReferenceTensor> = { ...referenceOps, floor: (x) => referenceOps.mul(x, NaN) };
    const [result] = await runConformance(adapterOf(broken), { only: (name) => name === "value of floor" });
    expect(result).toMatchObject({ ok: false, worstError: Infinity });
  });

  test("finds a wrong gradient", async () => {
    const adapter = adapterOf({
      ...referenceOps,
      valueAndGrad: (f, params) => ({ ...f(params), grads: mapTensors(params, (param) => referenceOps.neg(param)) }),
    });
    const [result] = await runConformance(adapter, { only: (name) => name === "gradient of sin of [7]" });
    expect(result?.ok).toBe(false);
    expect(result?.message).toMatch(/^x, element \d: expected /);
  });

  test("finds an error that is missing", async () => {
    const adapter = adapterOf({ ...referenceOps, reshape: (x) => x });
    const name = "reshape to another number of elements is a SHAPE_MISMATCH";
    const [result] = await runConformance(adapter, { only: (one) => one === name });
    expect(result).toMatchObject({ ok: false, message: "expected an error with code SHAPE_MISMATCH, got a result" });
  });

  test("finds a trainable that takes steps of another size", async () => {
    const backend = onnxBackend({ ort, threads: 1 });
    const hasty: typeof backend = {
      ...backend,
      trainable(initial, options) {
        const trainable = backend.trainable(initial, options);
        const step = trainable.step.bind(trainable);
        return Object.assign(trainable, {
          step: ({ learningRate }: { learningRate: number }) => step({ learningRate: 1.001 * learningRate }),
        });
      },
    };
    const only = (name: string) => name === "training: the default options take AdamW's steps";
    expect(await runConformance(fromBackend(backend), { only })).toMatchObject([{ ok: true }]);
    expect(await runConformance(fromBackend(hasty), { only })).toMatchObject([
      { ok: false, message: expect.stringMatching(/^params\./) },
    ]);
  });

  test("reports what an adapter throws as a failed case", async () => {
    const [one] = conformanceCases();
    const adapter: ConformanceAdapter = { name: "none", evaluate: () => Promise.reject(new Error("no device")) };
    expect(await runCase(adapter, one!)).toMatchObject({ ok: false, message: expect.stringContaining("no device") });
  });

  test("widens its tolerances by the adapter's factor", async () => {
    const coarse = (x: ReferenceTensor) => ({ ...x, data: x.data.map((value) => value + 5e-6) });
    const adapter = adapterOf({ ...referenceOps, sin: (x) => coarse(referenceOps.sin(x)) });
    const only = (name: string) => name === "value of sin of [7]";
    expect(await runConformance(adapter, { only })).toMatchObject([{ ok: false }]);
    expect(await runConformance({ ...adapter, toleranceFactor: 10 }, { only })).toMatchObject([{ ok: true }]);
  });
});
