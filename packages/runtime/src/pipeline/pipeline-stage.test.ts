import { describe, expect, it } from "vitest";
import * as tf from "@tensorflow/tfjs";
import { HostTensor, type HostParams, type Program } from "@sdxs/tensor";
import { tfjsBackend } from "@sdxs/tensor/tfjs";
import { countingBackend } from "./counting-backend.test-support.js";
import { PipelineStage } from "./pipeline-stage.js";

/** a x + b, whatever else there is. */
const program: Program<"x", "y"> = (ops, { a, b, ballast }, { x }) => ({
  y: ops.add(ops.add(ops.mul(a!, x), b!), ops.mul(ops.slice(ballast!, 0, 0, 1), 0)),
});
const specs = { x: { shape: [1] } };
const inputs = { x: HostTensor.from([1], [10]) };

describe.each([
  ["constants of its programs", 1],
  ["uploaded, being large", 2 ** 24 + 1],
])("A stage whose weights are %s", (_, size) => {
  it("adapts some of them, compiles once for each shape, and frees all in the end", async () => {
    const tfjs = await tfjsBackend({ tf, backend: "cpu" });
    const { backend, counted } = countingBackend<unknown>(tfjs);
    const before = tfjs.memory().tensors;
    const weights: HostParams = {
      a: HostTensor.from([1], [2]),
      b: HostTensor.from([1], [1]),
      ballast: HostTensor.filled([size], 0),
    };
    const stage = new PipelineStage(backend, weights, program);
    const result = async (): Promise<number> => {
      const { y } = await stage.run(specs, inputs);
      const [value] = (await backend.download(y)).data;
      backend.dispose(y);
      return value!;
    };
    const adapted = async (changed: HostParams): Promise<readonly [result: number, uploads: number]> => {
      await stage.adapt(changed);
      const value = await result();
      const { compilations, uploads } = counted();
      compiled += compilations;
      return [value, uploads];
    };
    let compiled = 0;
    expect(counted().uploads).toBe(0); // not before it runs
    expect([await result(), await result()]).toEqual([21, 21]);
    expect(counted()).toEqual({ compilations: 1, uploads: size === 1 ? 0 : 3 });
    expect(await adapted({ a: HostTensor.from([1], [3]) })).toEqual([31, 1]);
    expect(await adapted({ a: HostTensor.from([1], [4]) })).toEqual([41, 1]);
    expect(await adapted({})).toEqual([21, 0]);
    expect(await adapted({ b: HostTensor.from([1], [5]) })).toEqual([25, size === 1 ? 2 : 1]);
    expect(await adapted({})).toEqual([21, 0]);
    // Constants: one program for a, one for a and b.
    expect(compiled).toBe(size === 1 ? 2 : 0);
    await stage.adapt({ a: HostTensor.from([1], [3]) });
    await stage.dispose();
    expect(tfjs.memory().tensors).toBe(before);
  });
});
