import { HostTensor, type Program, type TensorMap } from "@sdxs/tensor";
import { expectGradient, expectOutput, maxAbs, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import { perceptualDistance } from "./index.js";
import { expectClose, fixtureTensors, valuesAndGradients, type PerSampleLoss } from "./reference.test-support.js";

const reference = await fixtureTensors("perceptual-distance");
const inputs = Object.fromEntries(Object.entries(reference).filter(([name]) => /^(x|y|weights)\./.test(name)));
const list = <T>(given: TensorMap<T>, name: string): T[] => [given[`${name}.0`]!, given[`${name}.1`]!];

describe.each(testBackends)("perceptual distance on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("has the values and gradients of LPIPS' equation in PyTorch", async () => {
    const plain: PerSampleLoss = (ops, given) => perceptualDistance(ops, list(given, "x"), list(given, "y"));
    expectOutput("plain", (await valuesAndGradients(run, plain, inputs, []))["values"], reference["plain"]);

    const weighted: PerSampleLoss = (ops, given) =>
      perceptualDistance(ops, list(given, "x"), list(given, "y"), { channelWeights: list(given, "weights") });
    const result = await valuesAndGradients(run, weighted, inputs, ["x.0", "x.1"]);
    expectOutput("weighted", result["values"], reference["weighted"]);
    for (const name of ["grad.x.0", "grad.x.1"]) {
      expectGradient(name, result[name], reference[name]!, maxAbs(reference[name]!));
    }
  });

  it("depends on directions alone, and is 4 for opposite ones", async () => {
    const x = HostTensor.from([2, 2, 1], [3, 4, -6, 8]);
    const loss: PerSampleLoss = (ops, { x }) =>
      ops.concat(
        [5, -1].map((factor) => perceptualDistance(ops, [x!], [ops.mul(x!, factor)])),
        0,
      );
    const result = await valuesAndGradients(run, loss, { x }, []);
    expectClose(result["values"]!.data, [0, 0, 4, 4], 1e-6);
  });

  it("is finite, with a finite gradient, where all channels are 0", async () => {
    const x = HostTensor.filled([1, 3, 2, 2], 0);
    const y = HostTensor.from([1, 3, 2, 2], [1, 0, 2, 0, 1, 0, 2, 0, 1, 0, 2, 0]);
    const loss: PerSampleLoss = (ops, { x, y }) => perceptualDistance(ops, [x!], [y!]);
    const result = await valuesAndGradients(run, loss, { x, y }, ["x"]);
    expectClose(result["values"]!.data, [0.5], 1e-6); // a unit vector at half of the positions
    expect(result["grad.x"]!.data.every(Number.isFinite)).toBe(true);
  });

  it("refuses lists, features and weights that do not fit", async () => {
    const losses: PerSampleLoss[] = [
      (ops, given) => perceptualDistance(ops, list(given, "x"), [given["y.0"]!]),
      (ops, given) => perceptualDistance(ops, [given["x.0"]!], [given["y.1"]!]),
      (ops, given) => perceptualDistance(ops, [given["weights.0"]!], [given["weights.0"]!]),
      (ops, given) =>
        perceptualDistance(ops, [given["x.0"]!], [given["y.0"]!], { channelWeights: [given["weights.1"]!] }),
      (ops, given) => perceptualDistance(ops, [given["x.0"]!], [given["y.0"]!], { channelWeights: [] }),
    ];
    for (const loss of losses) {
      const program: Program = (ops, _params, given) => ({ values: loss(ops, given) });
      await expect(run(program, {}, inputs), String(loss)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    }
  });
});
