import * as ort from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { HostTensor } from "../core/host-tensor.js";
import type { Program } from "../core/program.js";
import { onnxBackend } from "./backend.js";

const size = 2 ** 16;
const doubled: Program<"x", "twice" | "same"> = (ops, _params, { x }) => {
  const twice = ops.mul(x, 2);
  return { twice, same: ops.reshape(twice, [size, 1]) };
};
const backend = onnxBackend({ ort });
const run = async () => {
  const compiled = await backend.compile(doubled, { inputs: { x: { shape: [size] } } });
  const results = await compiled.run({}, { x: HostTensor.filled([size], 3) });
  await compiled.dispose();
  return results;
};

describe("dispose of onnxBackend", () => {
  it("frees the memory of a result at once", async () => {
    const compiled = await backend.compile<"x", "y">((ops, _p, { x }) => ({ y: ops.mul(x, 2) }), {
      inputs: { x: { shape: [size] } },
    });
    const { y } = await compiled.run({}, { x: HostTensor.filled([size], 3) });
    const { buffer } = y.data as Float32Array;
    backend.dispose(y);
    expect(buffer.byteLength).toBe(0);
    await compiled.dispose();
  });

  it("leaves what was downloaded", async () => {
    const { twice } = await run();
    const host = await backend.download(twice);
    backend.dispose(twice);
    expect(host.data[size - 1]).toBe(6);
  });

  it("leaves an output that shares the result's memory", async () => {
    const { twice, same } = await run();
    backend.dispose(twice);
    expect((await backend.download(same)).data[size - 1]).toBe(6);
  });

  it("leaves the caller's own memory", () => {
    const host = HostTensor.filled([size], 3);
    backend.dispose(backend.upload(host));
    expect(host.data[size - 1]).toBe(3);
  });
});
