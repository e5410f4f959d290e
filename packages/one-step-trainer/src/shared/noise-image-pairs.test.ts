import { ddim, ddpm, noiseSchedule, sample } from "@sdxs/diffusion";
import { HostTensor, random } from "@sdxs/tensor";
import { describe, expect, it } from "vitest";
import { noiseImagePairs } from "../index.js";

const plan = ddim(noiseSchedule(), { steps: 4 });
const sampleShape = [2, 3, 3];
const contexts = random(1).normal([4, 5, 6]);

const slice = (tensor: HostTensor, begin: number, end: number): HostTensor => {
  const [, ...shape] = tensor.shape;
  const size = shape.reduce((a, b) => a * b, 1);
  return HostTensor.from([end - begin, ...shape], tensor.data.slice(begin * size, end * size));
};

/** A teacher whose output depends on the sample, the timestep and the sample's own context. */
const predict = (x: HostTensor, timestep: number, context: HostTensor): Promise<HostTensor> => {
  const [batch = 1] = x.shape;
  const size = x.data.length / batch;
  const contextSize = context.data.length / batch;
  return Promise.resolve(
    HostTensor.from(
      x.shape,
      Array.from(x.data, (value, i) => {
        const own = context.data[Math.floor(i / size) * contextSize]!;
        return 0.3 * value + 0.1 * own + timestep / 1e4;
      }),
    ),
  );
};

describe("noise-image pairs", () => {
  it("are the same whatever the size of the batches", async () => {
    const pairs = noiseImagePairs({ seed: 7, sampleShape, plan, predict });
    const all = await pairs(contexts, 10);
    const later = await pairs(slice(contexts, 2, 4), 12);
    expect(all.noise.shape).toEqual([4, 2, 3, 3]);
    expect(later.noise).toEqual(slice(all.noise, 2, 4));
    expect(later.target).toEqual(slice(all.target, 2, 4));
  });

  it("differ between seeds and between indices", async () => {
    const first = await noiseImagePairs({ seed: 7, sampleShape, plan, predict })(contexts, 0);
    const second = await noiseImagePairs({ seed: 8, sampleShape, plan, predict })(contexts, 0);
    expect(first.noise.data).not.toEqual(second.noise.data);
    expect(slice(first.noise, 0, 1).data).not.toEqual(slice(first.noise, 1, 2).data);
  });

  it("join each noise to the teacher's sample of it", async () => {
    const { noise, target } = await noiseImagePairs({ seed: 7, sampleShape, plan, predict })(contexts, 0);
    const direct = await sample({ plan, noise, predict: (x, timestep) => predict(x, timestep, contexts) });
    expect(target).toEqual(direct);
  });

  it("are guided away from the empty prompt", async () => {
    const unconditional = HostTensor.filled([5, 6], 0.5);
    const guidance = { scale: 3, unconditional };
    const guided = await noiseImagePairs({ seed: 7, sampleShape, plan, predict, guidance })(contexts, 0);
    const empty = HostTensor.filled([4, 5, 6], 0.5);
    const direct = await sample({
      plan,
      noise: guided.noise,
      predict: async (x, timestep) => {
        const without = await predict(x, timestep, empty);
        const conditional = await predict(x, timestep, contexts);
        return HostTensor.from(
          x.shape,
          Array.from(without.data, (value, i) => value + 3 * (conditional.data[i]! - value)),
        );
      },
    });
    direct.data.forEach((value, i) => expect(guided.target.data[i]).toBeCloseTo(value, 5));

    const unguided = await noiseImagePairs({
      seed: 7,
      sampleShape,
      plan,
      predict,
      guidance: { scale: 1, unconditional },
    })(contexts, 0);
    expect(unguided).toEqual(await noiseImagePairs({ seed: 7, sampleShape, plan, predict })(contexts, 0));
  });

  it("refuse a sampler that adds noise, and contexts that do not fit", async () => {
    expect(() => noiseImagePairs({ seed: 7, sampleShape, predict, plan: ddpm(noiseSchedule(), { steps: 4 }) })).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }),
    );
    const pairs = noiseImagePairs({
      seed: 7,
      sampleShape,
      plan,
      predict,
      guidance: { scale: 2, unconditional: HostTensor.filled([1, 6], 0) },
    });
    await expect(pairs(contexts, 0)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    await expect(pairs(HostTensor.filled([4, 6], 0), 0)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
  });
});
