import { describe, expect, it } from "vitest";
import { withGradients } from "./gradients.js";
import { HostTensor } from "../core/host-tensor.js";
import type { Program } from "../core/program.js";
import { testBackends } from "../testing.js";

/** Mean squared error of a line: with residuals r = w x + b - y, d/dw = 2 mean(r x) and d/db = 2 mean(r). */
const line: Program = (ops, { w, b }, { x, y }) => {
  const prediction = ops.add(ops.mul(x!, w!), b!);
  return { loss: ops.mean(ops.square(ops.sub(prediction, y!))), prediction };
};

const params = { w: HostTensor.scalar(2), b: HostTensor.scalar(1) };
const inputs = { x: HostTensor.from([2], [1, 3]), y: HostTensor.from([2], [0, 5]) }; // residuals 3 and 2

describe.each(testBackends)("withGradients on $name", ({ run }) => {
  it("returns the program's outputs and the gradient of its loss for each trainable parameter", async () => {
    const outputs = await (await run())(withGradients(line, ["w", "b"]), params, inputs);
    expect(Object.keys(outputs).sort()).toEqual(["grad.b", "grad.w", "loss", "prediction"]);
    expect(outputs.loss?.item()).toBe(6.5);
    expect([...outputs.prediction!.data]).toEqual([3, 7]);
    expect(outputs["grad.w"]?.item()).toBe(9);
    expect(outputs["grad.b"]?.item()).toBe(5);
  });

  it("takes parameters that are not trainable as constants", async () => {
    const outputs = await (await run())(withGradients(line, ["b"]), params, inputs);
    expect(Object.keys(outputs).sort()).toEqual(["grad.b", "loss", "prediction"]);
    expect(outputs["grad.b"]?.item()).toBe(5);
  });

  it("names a trainable parameter that does not exist", async () => {
    const result = (await run())(withGradients(line, ["w", "c"]), params, inputs);
    await expect(result).rejects.toMatchObject({ code: "MISSING_PARAMETER", message: expect.stringContaining('"c"') });
  });

  it("says what is wrong with the outputs", async () => {
    const once = await run();
    const attempt = (program: Program) => once(withGradients(program, ["w"]), params, inputs);
    await expect(attempt((ops, { w }, { x }) => ({ error: ops.mul(w!, x!) }))).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("it has error"),
    });
    await expect(attempt((ops, { w }, { x }) => ({ loss: ops.mul(w!, x!) }))).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
      message: expect.stringContaining("shape [2]"),
    });
    await expect(attempt((_ops, { w }) => ({ loss: w!, "grad.w": w! }))).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining('"grad.w"'),
    });
  });
});
