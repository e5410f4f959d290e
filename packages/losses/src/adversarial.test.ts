import {
  HostTensor,
  convLayer,
  groupNormLayer,
  scope,
  select,
  silu,
  withGradients,
  type Ops,
  type Program,
  type TensorMap,
} from "@sdxs/tensor";
import { expectGradient, expectOutput, maxAbs, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import { discriminatorLoss, generatorLoss, r1Penalty, type AdversarialLoss } from "./index.js";
import { expectClose, fixtureTensors, valuesAndGradients, type PerSampleLoss } from "./reference.test-support.js";

// Values and gradients on random logits are those of PyTorch: see the reference case in losses.test.ts.

describe.each(testBackends)("GAN losses on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
  const definitions: Record<AdversarialLoss, { real: (x: number) => number; fake: (x: number) => number }> = {
    hinge: { real: (x) => Math.max(0, 1 - x), fake: (x) => Math.max(0, 1 + x) },
    "non-saturating": { real: (x) => -Math.log(sigmoid(x)), fake: (x) => -Math.log(1 - sigmoid(x)) },
    "least-squares": { real: (x) => (x - 1) ** 2 / 2, fake: (x) => x ** 2 / 2 },
  };
  const kinds = Object.keys(definitions) as AdversarialLoss[];

  it.each(kinds)("%s: one value per sample, of one logit or the mean of many", async (kind) => {
    const real = [-1.5, 0.25, 2, -0.5, 0.75, 3];
    const fake = [0.5, -2, 1.25, -0.75, 0, 2];
    const { real: costOfReal, fake: costOfFake } = definitions[kind];
    const ofDiscriminator = real.map((x, i) => costOfReal(x) + costOfFake(fake[i]!));
    const ofGenerator = fake.map(kind === "hinge" ? (x) => -x : costOfReal);
    const program: Program = (ops, _params, { real, fake }) => ({
      discriminator: discriminatorLoss(ops, kind, real!, fake!),
      generator: generatorLoss(ops, kind, fake!),
    });
    for (const shape of [[6], [2, 1, 3]]) {
      const inputs = { real: HostTensor.from(shape, real), fake: HostTensor.from(shape, fake) };
      const result = await run(program, {}, inputs);
      const size = 6 / shape[0]!;
      const means = (values: readonly number[]): number[] =>
        Array.from({ length: shape[0]! }, (_, n) =>
          values.slice(n * size, (n + 1) * size).reduce((sum, value) => sum + value / size, 0),
        );
      expect(result["discriminator"]!.shape).toEqual([shape[0]]);
      expectClose(result["discriminator"]!.data, means(ofDiscriminator), 1e-6);
      expectClose(result["generator"]!.data, means(ofGenerator), 1e-6);
    }
  });

  it("the non-saturating loss has its slope at 0 and does not overflow", async () => {
    const fake = HostTensor.from([5], [0, 200, -200, 20, -20]);
    const loss: PerSampleLoss = (ops, { fake }) => generatorLoss(ops, "non-saturating", fake!);
    const result = await valuesAndGradients(run, loss, { fake }, ["fake"]);
    expectClose(result["values"]!.data, [Math.LN2, 0, 200, Math.exp(-20), 20], 1e-6);
    expectClose(
      result["grad.fake"]!.data,
      [-0.5, 0, -1, 0, -1].map((slope) => slope / 5),
      1e-6,
    );
  });

  it("refuses logits of different shapes, and scalars", async () => {
    const scalar = HostTensor.scalar(1);
    const inputs = { real: HostTensor.filled([2, 3], 1), fake: HostTensor.filled([2, 1], 1), scalar };
    for (const loss of [
      (ops, { real, fake }) => discriminatorLoss(ops, "hinge", real!, fake!),
      (ops, { scalar }) => discriminatorLoss(ops, "hinge", scalar!, scalar!),
      (ops, { scalar }) => generatorLoss(ops, "hinge", scalar!),
      (ops, { real }) => r1Penalty(ops, (x) => ops.mean(x), real!),
    ] satisfies PerSampleLoss[]) {
      const program: Program = (ops, _params, given) => ({ values: loss(ops, given) });
      await expect(run(program, {}, inputs)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    }
  });

  it("R1 of a linear discriminator is half its weights' squared norm, per sample", async () => {
    const inputs = {
      images: HostTensor.from([2, 3], [1, 2, 3, 4, 5, 6]),
      scale: HostTensor.from([2, 1], [1, 2]),
      weight: HostTensor.from([1, 3], [1, -2, 0.5]),
    };
    const loss: PerSampleLoss = (ops, { images, scale, weight }) =>
      r1Penalty(ops, (x) => ops.mul(ops.mul(x, weight!), scale!), images!);
    const result = await valuesAndGradients(run, loss, inputs, ["weight", "images"]);
    expectClose(result["values"]!.data, [2.625, 10.5], 1e-6); // (1 + 4 + 1 / 4) / 2, times 1 and 4
    // Of the mean over samples, weight (1 + 4) / 2.
    expectClose(result["grad.weight"]!.data, [2.5, -5, 1.25], 1e-6);
    expectClose(result["grad.images"]!.data, new Float32Array(6), 1e-9);
  });

  it("R1 and its gradient by a convolutional discriminator's parameters are PyTorch's", async () => {
    const reference = await fixtureTensors("r1");
    const names = Object.keys(reference).filter((name) => /^(first|norm|last)\./.test(name));
    const weights = Object.fromEntries(names.map((name) => [name, reference[name]!]));
    const program: Program = <T>(ops: Ops<T>, params: TensorMap<T>, { images }: TensorMap<T>) => {
      const p = scope(ops, params);
      const values = r1Penalty(
        ops,
        (x) => {
          const first = convLayer(ops, p.at("first"), x, 4, { stride: 2, padding: 1 });
          const h = silu(ops, groupNormLayer(ops, p.at("norm"), first, 2, 1e-5));
          return convLayer(ops, p.at("last"), h, 2); // [batch, 2, h, w]
        },
        images!,
      );
      return { loss: ops.mean(values), values };
    };
    const result = await run(withGradients(program, names), weights, { images: reference["images"]! });
    expectOutput("values", result["values"], reference["values"]);
    const gradients = select(reference, "grad.");
    const largest = Math.max(...Object.values(gradients).map(maxAbs));
    for (const [name, gradient] of Object.entries(gradients)) {
      expectGradient(name, result[`grad.${name}`], gradient, largest);
    }
    expectClose(result["grad.last.bias"]!.data, [0, 0], 1e-9);
  });
});
