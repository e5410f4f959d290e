import { expect, it } from "vitest";
import { readSafetensors } from "@sdxs/tensor";
import { randomHalfCheckpoint } from "./random-checkpoint.js";

const specs = { norm: { shape: [320] }, "conv.weight": { shape: [70, 1024, 3, 3] } };

it("randomHalfCheckpoint gives a safetensors file of weights as large as newly initialised ones, the same each time", () => {
  // The pieces share memory, so that each is copied as it comes.
  const written = (): Buffer => Buffer.concat(Array.from(randomHalfCheckpoint(specs), (piece) => piece.slice()));
  const file = written();
  expect(written().equals(file)).toBe(true);
  const { tensors, metadata } = readSafetensors(file);
  expect(metadata).toEqual({ format: "pt" });
  const { shape, data } = tensors["conv.weight"]!;
  expect(shape).toEqual([70, 1024, 3, 3]);
  const values = Array.from(data);
  const magnitudes = values.map(Math.abs);
  // Uniform between -1/96 and 1/96, 96 the root of the fan in, has about the same variance.
  expect(magnitudes.reduce((a, b) => Math.max(a, b))).toBeLessThan(2 ** -7);
  expect(magnitudes.reduce((a, b) => Math.min(a, b))).toBeGreaterThanOrEqual(2 ** -8);
  const negative = values.filter((value) => value < 0).length / values.length;
  expect(Math.abs(negative - 0.5)).toBeLessThan(0.01);
});
