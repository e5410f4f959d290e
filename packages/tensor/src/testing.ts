/** Support for the tests of all packages; not part of the published package. */
import { readFile } from "node:fs/promises";
import { expect } from "vitest";
import { withGradients } from "./optim/gradients.js";
import { HostTensor } from "./core/host-tensor.js";
import type { TensorMap } from "./core/ops.js";
import type { Program, TensorSpec } from "./core/program.js";
import {
  agrees,
  compareGradient,
  compareOutput,
  compareTensors,
  type CaseResult,
  type Comparison,
  type RunOnce,
} from "./reference-case.js";

export {
  maxAbs,
  readModelListing,
  referenceCase,
  testBackends,
  type ModelListing,
  type ReferenceCase,
  type RunOnce,
} from "./reference-case.js";

/** Names and shapes of declared parameters in the form of a listing, for `toEqual`. */
export function listShapes(specs: Readonly<Record<string, TensorSpec>>): Record<string, readonly number[]> {
  return Object.fromEntries(Object.entries(specs).map(([name, { shape }]) => [name, shape]));
}

/** Largest absolute difference; infinite where shapes differ or any is not a number. */
export function maxAbsError(actual: HostTensor, reference: HostTensor): number {
  return compareTensors("", "", actual, reference, Infinity).error;
}

/** Outputs agree within 1e-4 of their scale, which float32 reaches. */
export function expectOutput(name: string, actual: HostTensor | undefined, reference: HostTensor | undefined): void {
  if (!reference) throw new Error(`${name}: no reference`);
  expectAgreement([compareOutput(name, actual, reference)]);
}

/** Gradients agree within 1e-4 of their tensor's scale plus 1e-5 of the model's largest gradient. */
export function expectGradient(...given: Parameters<typeof compareGradient>): void {
  expectAgreement([compareGradient(...given)]);
}

/** A case agrees with its reference, and nothing of it was left unchecked. */
export function expectCase({ comparisons, unchecked }: CaseResult): void {
  expect(unchecked).toEqual([]);
  expect(comparisons).not.toHaveLength(0);
  expectAgreement(comparisons);
}

function expectAgreement(comparisons: readonly Comparison[]): void {
  expect(comparisons.filter((comparison) => !agrees(comparison))).toEqual([]);
}

/** A loss's slope along its gradient by the parameter `name`, by central differences, over the gradient's norm: 1 where they agree. */
export async function slopeAlongGradient(
  run: RunOnce,
  program: Program,
  params: TensorMap<HostTensor>,
  inputs: TensorMap<HostTensor>,
  name: string,
): Promise<number> {
  const { [`grad.${name}`]: gradient } = await run(withGradients(program, [name]), params, inputs);
  const norm = Math.hypot(...gradient!.data);
  const lossAt = async (step: number) => {
    const { shape, data } = params[name]!;
    const moved = HostTensor.from(
      shape,
      Array.from(data, (value, i) => value + (step * gradient!.data[i]!) / norm),
    );
    return (await run(program, { ...params, [name]: moved }, inputs))["loss"]!.item();
  };
  const step = 1e-2;
  return ((await lossAt(step)) - (await lossAt(-step))) / (2 * step) / norm;
}

/**
 * The rows of the tables below a heading of a Markdown file, down to the next heading of its level, without each table's head:
 * what a document says, to be checked. Cells are plain: code without its marks.
 */
export async function documentTables(file: URL, heading: string): Promise<string[][]> {
  const [, section = ""] = (await readFile(file, "utf8")).split(`\n## ${heading}\n`);
  const lines = section.split("\n## ")[0]!.split("\n");
  const isHead = (line: string, index: number): boolean => /^\| -/.test(line) || /^\| -/.test(lines[index + 1] ?? "");
  return lines
    .filter((line, index) => line.startsWith("|") && !isHead(line, index))
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) =>
          cell
            .trim()
            .replace(/^`(.*)`$/, "$1")
            .replaceAll("\\|", "|"),
        ),
    );
}
