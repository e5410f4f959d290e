import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { scope } from "@sdxs/tensor";
import { exportOnnx, onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { afterAll, beforeAll, expect, it } from "vitest";
import { exactMoments, mixtureParameters, momentsOf } from "../../recipes/mixture/src/gaussian-mixture.js";
import { batchSize, distil, target, teacher } from "../two-groups.js";
import { onnxScore } from "./onnx-score.js";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sdxs-onnx-teacher-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** Writes the target's score; any tool's file with these inputs and this output would do. */
async function writeTeacher(path: string): Promise<void> {
  const { model } = exportOnnx(
    (ops, params, { sample, timestep, context }) => ({
      // The score needs no context; a sum keeps the input in the file.
      prediction: ops.add(
        teacher(ops, scope(ops, params), { sample, timestep, context }),
        ops.mul(ops.mean(context), 0),
      ),
    }),
    {
      frozen: mixtureParameters(target),
      inputs: {
        sample: { shape: [batchSize, 2, 1, 1] },
        timestep: { shape: [batchSize] },
        context: { shape: [batchSize, 1, 1] },
      },
    },
  );
  await writeFile(path, model);
}

it("distils a teacher that is only an ONNX file", async () => {
  const path = join(folder, "teacher.onnx");
  await writeTeacher(path);
  const points = await distil(onnxBackend({ ort, threads: 1 }), await onnxScore(path), 300);
  const { mean, covariance, weights } = momentsOf(points, target);
  const exact = exactMoments(target);
  mean.forEach((value, axis) => expect(Math.abs(value - exact.mean[axis]!)).toBeLessThan(0.1));
  covariance.forEach((value, i) => expect(Math.abs(value - exact.covariance[i]!)).toBeLessThan(0.1));
  weights.forEach((value, i) => expect(Math.abs(value - exact.weights[i]!)).toBeLessThan(0.1));
});
