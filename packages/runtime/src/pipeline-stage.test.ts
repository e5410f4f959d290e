import { describe, expect, it } from "vitest";
import * as tf from "@tensorflow/tfjs";
import { HostTensor, type Backend, type HostParams, type Program } from "@sdxs/tensor";
import { tfjsBackend } from "@sdxs/tensor/tfjs";
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
    let compilations = 0;
    let uploads = 0;
    const backend: Backend<unknown> = {
      ...tfjs,
      compile: (...given) => {
        compilations++;
        return tfjs.compile(...given);
      },
      upload: (tensor) => {
        uploads++;
        return tfjs.upload(tensor);
      },
    };
    const before = tfjs.memory().tensors;
    const weights: HostParams = {
      a: HostTensor.from([1], [2]),
      b: HostTensor.from([1], [1]),
      ballast: HostTensor.filled([size], 0),
    };
    const stage = new PipelineStage(backend, weights, program);
    expect(uploads).toBe(0); // not before it runs
    const result = async (): Promise<number> => {
      const { y } = await stage.run(specs, inputs);
      const [value] = (await backend.download(y)).data;
      backend.dispose(y);
      return value!;
    };
    const adapted = async (changed: HostParams): Promise<readonly [result: number, uploads: number]> => {
      const uploadsBefore = uploads;
      await stage.adapt(changed);
      return [await result(), uploads - uploadsBefore];
    };
    expect([await result(), await result()]).toEqual([21, 21]);
    expect(await adapted({ a: HostTensor.from([1], [3]) })).toEqual([31, 1]);
    expect(await adapted({ a: HostTensor.from([1], [4]) })).toEqual([41, 1]);
    expect(await adapted({})).toEqual([21, 0]);
    expect(await adapted({ b: HostTensor.from([1], [5]) })).toEqual([25, size === 1 ? 2 : 1]);
    expect(await adapted({})).toEqual([21, 0]);
    // Constants: the stage's own program, one for a, one for a and b.
    expect(compilations).toBe(size === 1 ? 3 : 1);
    await stage.adapt({ a: HostTensor.from([1], [3]) });
    await stage.dispose();
    expect(tfjs.memory().tensors).toBe(before);
  });
});
