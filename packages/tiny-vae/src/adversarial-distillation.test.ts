import * as ort from "onnxruntime-node";
import {
  HostTensor,
  constantSchedule,
  initialize,
  prefixed,
  random,
  scope,
  withGradients,
  type Program,
} from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { maxAbs, slopeAlongGradient, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import type { AdversarialLoss } from "@sdxs/losses";
import { alternatingTask } from "@sdxs/training";
import { beforeAll, describe, expect, it } from "vitest";
import {
  adversarialDecoderDistillation,
  discriminatorParameters,
  parseAutoencoderTinyConfig,
  patchDiscriminator,
  projectedDiscriminator,
  tinyDecoderDistillation,
  tinyDecoderParameters,
  type AdversarialDecoderDistillationOptions,
  type Discriminator,
  type DiscriminatorOptions,
} from "./index.js";

const config = parseAutoencoderTinyConfig({
  decoder_block_out_channels: [8, 8, 8],
  num_decoder_blocks: [1, 1, 1],
  encoder_block_out_channels: [8, 8, 8],
  num_encoder_blocks: [1, 1, 1],
});
const decoderParams = initialize(tinyDecoderParameters(config), 1);
const inputs = { latents: random(2).normal([2, 4, 4, 4]), image: random(3).uniform([2, 3, 16, 16]) };

/** A frozen network of one parameter, and two maps of it. */
const features: DiscriminatorOptions["features"] = (ops, p, images) => {
  const scaled = ops.mul(images, p.param("scale", [3, 1, 1], { kind: "constant", value: 1 }));
  return [scaled, ops.tanh(scaled)];
};
const scale = [1, -0.5, 2];

/** Logits that are each pixel of each map times a weight for its channel. */
const linear: Discriminator = (ops, p, maps) =>
  ops.concat(
    maps.map((map, l) => {
      const weight = p.at(l).param("weight", [3, 1, 1], { kind: "constant", value: 1 });
      return ops.reshape(ops.mul(map, weight), [ops.shape(map)[0]!, -1]);
    }),
    1,
  );
const weights = [
  [0.5, -1, 0.25],
  [2, 1.5, -0.75],
];

const paramsFor = (options: DiscriminatorOptions): Record<string, HostTensor> => ({
  ...prefixed(initialize(discriminatorParameters([1, 3, 16, 16], options), 4), "discriminator."),
  ...prefixed(decoderParams, "decoder."),
  "features.scale": HostTensor.from([3, 1, 1], scale),
});
const linearParams = {
  ...paramsFor({ features, discriminator: linear }),
  ...Object.fromEntries(weights.map((weight, l) => [`discriminator.${l}.weight`, HostTensor.from([3, 1, 1], weight)])),
};

/** The linear discriminator's logits for each sample, in float64. */
const linearLogits = ({ data }: HostTensor): number[][] =>
  [0, 1].map((sample) =>
    Array.from(data.subarray(sample * 768, (sample + 1) * 768)).flatMap((pixel, i) => {
      const channel = Math.floor(i / 256);
      const scaled = pixel * scale[channel]!;
      return [scaled * weights[0]![channel]!, Math.tanh(scaled) * weights[1]![channel]!];
    }),
  );
/** R1 of it, the same for each sample: half the squared gradient by each of the 256 pixels of each map's channel. */
const linearR1 = weights.flat().reduce((sum, weight) => sum + (256 * weight ** 2) / 2, 0);

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const softplus = (x: number): number => Math.log(1 + Math.exp(x));
/** What a logit costs the discriminator, real or fake, and the decoder. */
const costs: Record<AdversarialLoss, Record<"real" | "fake" | "decoder", (logit: number) => number>> = {
  hinge: { real: (x) => Math.max(0, 1 - x), fake: (x) => Math.max(0, 1 + x), decoder: (x) => -x },
  "non-saturating": { real: (x) => softplus(-x), fake: softplus, decoder: (x) => softplus(-x) },
  "least-squares": { real: (x) => (x - 1) ** 2 / 2, fake: (x) => x ** 2 / 2, decoder: (x) => (x - 1) ** 2 / 2 },
};

describe.each(testBackends)("adversarial decoder distillation on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it.each(Object.keys(costs) as AdversarialLoss[])("%s: adds up what logits, R1 and distances cost", async (gan) => {
    const options = { gan, lambdaGan: 0.3, r1Weight: 0.01, weights: { l1: 2 }, features, discriminator: linear };
    const { discriminator, decoder } = adversarialDecoderDistillation(config, options);
    const alone = await run(tinyDecoderDistillation(config, options), decoderParams, inputs);
    const real = linearLogits(inputs.image);
    const fake = linearLogits(alone.decoded);

    const ofDiscriminator = await run(discriminator, linearParams, inputs);
    const adversarial = mean(real.flat().map(costs[gan].real)) + mean(fake.flat().map(costs[gan].fake));
    expect(ofDiscriminator.adversarial.item()).toBeCloseTo(adversarial, 5);
    expect(ofDiscriminator.loss.item()).toBeCloseTo(adversarial + 0.01 * linearR1, 4);
    expect(ofDiscriminator.realLogit.item()).toBeCloseTo(mean(real.flat()), 5);
    expect(ofDiscriminator.fakeLogit.item()).toBeCloseTo(mean(fake.flat()), 5);

    const ofDecoder = await run(decoder, linearParams, inputs);
    const perSample = fake.map((logits, i) => alone.perSample.data[i]! + 0.3 * mean(logits.map(costs[gan].decoder)));
    perSample.forEach((value, i) => expect(ofDecoder.perSample.data[i]).toBeCloseTo(value, 5));
    expect(ofDecoder.loss.item()).toBeCloseTo(mean(perSample), 5);
    expect(ofDecoder.distance.item()).toBeCloseTo(alone.loss.item(), 5);
    expect(ofDecoder.adversarial.item()).toBeCloseTo(mean(fake.flat().map(costs[gan].decoder)), 5);
    expect([...ofDecoder.decoded.data]).toEqual([...alone.decoded.data]);
  });

  it("judges images by patches, and a frozen network's maps by heads, by default", async () => {
    for (const options of [{}, { features }]) {
      const params = paramsFor(options);
      const logits: Program<"latents" | "image", "mean"> = (ops, params, { image }) => {
        const p = scope(ops, params);
        const maps = features(ops, p.at("features"), image);
        return {
          mean: ops.mean(
            "features" in options
              ? projectedDiscriminator(ops, p.at("discriminator"), maps)
              : patchDiscriminator(ops, p.at("discriminator"), image),
          ),
        };
      };
      const { realLogit } = await run(adversarialDecoderDistillation(config, options).discriminator, params, inputs);
      expect(realLogit.item()).toBeCloseTo((await run(logits, params, inputs)).mean.item(), 5);
    }
  });

  it("has the gradients that finite differences give, R1's too, and none of the decoder in the discriminator's", async () => {
    // Smooth, unlike a leaky ReLU, whose slopes in R1 jump where finite differences step over them.
    const smooth: Discriminator = (ops, p, maps) => ops.tanh(linear(ops, p, maps));
    const { discriminator, decoder }: Record<"discriminator" | "decoder", Program> = adversarialDecoderDistillation(
      config,
      { lambdaGan: 0.5, r1Weight: 0.01, weights: { downsampled: 0, mse: 1 }, features, discriminator: smooth },
    );
    const layer = "decoder.decoder.layers.0.weight";
    const slopes = [
      await slopeAlongGradient(run, discriminator, linearParams, inputs, "discriminator.0.weight"),
      await slopeAlongGradient(run, discriminator, linearParams, inputs, "discriminator.1.weight"),
      await slopeAlongGradient(run, decoder, linearParams, inputs, layer),
    ];
    slopes.forEach((slope) => expect(slope).toBeCloseTo(1, 2));
    const { [`grad.${layer}`]: none } = await run(withGradients(discriminator, [layer]), linearParams, inputs);
    expect(maxAbs(none!)).toBe(0);
  });
});

describe("adversarial decoder distillation by alternatingTask", () => {
  /** Metrics of the first and the last step, and both players' weights, before and after. */
  async function trained(discriminatorRate: number, decoderRate: number, lambdaGan: number) {
    const options: AdversarialDecoderDistillationOptions = {
      lambdaGan,
      discriminator: (ops, p, [images]) => patchDiscriminator(ops, p, images!, { channels: [8, 16] }),
    };
    const { discriminator, decoder } = adversarialDecoderDistillation(config, options);
    const common = {
      inputs: { latents: { shape: [2, 4, 4, 4] }, image: { shape: [2, 3, 16, 16] } },
      batch: () => inputs,
      optimizer: { weightDecay: 0 },
    };
    const before = {
      discriminator: initialize(discriminatorParameters([1, 3, 16, 16], options), 4),
      decoder: decoderParams,
    };
    const task = await alternatingTask({
      name: "tiny decoder",
      backend: onnxBackend({ ort }),
      steps: 8,
      learners: {
        discriminator: {
          ...common,
          program: discriminator,
          params: before.discriminator,
          learningRate: constantSchedule(discriminatorRate),
        },
        decoder: { ...common, program: decoder, params: before.decoder, learningRate: constantSchedule(decoderRate) },
      },
    });
    const history = [];
    for (let step = 0; step < task.steps; step++) history.push(await task.step(step));
    const after = { discriminator: await task.weights("discriminator"), decoder: await task.weights("decoder") };
    await task.dispose();
    return { before, after, first: history[0]!, last: history.at(-1)! };
  }

  it("lets the discriminator tell a decoder that stands still", async () => {
    const { before, after, first, last } = await trained(1e-2, 0, 0.1);
    expect(after.decoder).toEqual(before.decoder);
    expect(last["discriminator.loss"]).toBeLessThan(first["discriminator.loss"]!);
    expect(last["discriminator.realLogit"]).toBeGreaterThan(last["discriminator.fakeLogit"]!);
  });

  it("lets the decoder please a discriminator that stands still", async () => {
    const { before, after, first, last } = await trained(0, 1e-3, 100);
    expect(after.discriminator).toEqual(before.discriminator);
    expect(last["decoder.adversarial"]).toBeLessThan(first["decoder.adversarial"]!);
    expect(last["discriminator.loss"]).toBeGreaterThan(first["discriminator.loss"]!);
  });
});
