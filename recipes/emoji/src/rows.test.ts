import { HostTensor } from "@sdxs/tensor";
import { tfjsBackend } from "@sdxs/tensor/tfjs";
import * as tf from "@tensorflow/tfjs";
import { expect, it } from "vitest";
import { mapBatches } from "../../rows.js";

it("fills up the last batch, and leaves nothing on the device", async () => {
  const backend = await tfjsBackend({ tf, backend: "cpu" });
  const x = HostTensor.from([5, 1], [1, 2, 3, 4, 5]);
  const before = backend.memory().tensors;
  const { y } = await mapBatches(backend, (ops, _, { x }) => ({ y: ops.mul(x, 2) }), {}, { x }, 2);
  expect(Array.from(y.data)).toEqual([2, 4, 6, 8, 10]);
  expect(backend.memory().tensors).toBe(before);
});
