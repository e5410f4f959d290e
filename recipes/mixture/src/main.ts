import { mkdir, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import type { HostTensor } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { firstRows } from "../../rows.js";
import { distil, generate, methods, target } from "./distil.js";
import { energyDistance, exactMoments, momentsOf, samplePoints, type Moments } from "./gaussian-mixture.js";
import { scatterPlots } from "./plot.js";

const { values } = parseArgs({ options: { output: { type: "string", default: "mixture" } } });
const output = resolve(values.output);
await mkdir(output, { recursive: true });

const count = 4000;
const backend = onnxBackend({ ort, threads: 1 }); // the networks are too small to share among threads
const truth = samplePoints(target, count, "truth");
const sets: { title: string; points: HostTensor }[] = [{ title: "target", points: truth }];
const rows = [row("target", exactMoments(target), energyDistance(samplePoints(target, count, "more truth"), truth))];
for (const method of methods) {
  console.log(`Training by ${method}`);
  const params = await distil(backend, method, { warmupSteps: 400, distillationSteps: 1500 });
  const points = await generate(backend, params, count);
  sets.push({ title: method, points });
  rows.push(row(method, momentsOf(points, target), energyDistance(points, truth)));
}
const few = sets.map(({ title, points }) => ({ title, points: firstRows(points, 1000) }));
await writeFile(resolve(output, "mixture.svg"), scatterPlots(few));
const table = [
  "| trained by | mean | covariance xx, xy, yy | shares | energy distance |",
  "| --- | --- | --- | --- | --- |",
  ...rows,
  "",
].join("\n");
await writeFile(resolve(output, "table.md"), table);
console.log(`\n${table}\nIn ${output}: mixture.svg, table.md`);

function row(name: string, { mean, covariance, weights }: Moments, distance: number): string {
  const show = (numbers: readonly number[]): string => numbers.map((value) => value.toFixed(2)).join(", ");
  return `| ${name} | ${show(mean)} | ${show(covariance)} | ${show(weights)} | ${distance.toFixed(4)} |`;
}
