import { beforeAll, describe, expect, it } from "vitest";
import { HostTensor, initialize, scope, select, withGradients, type Ops, type TensorMap } from "@sdxs/tensor";
import { expectCase, expectOutput, referenceCase, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import {
  guidanceScaleEmbedding,
  namedFeatures,
  parseUNetConfig,
  sinusoidalEmbedding,
  unet,
  unetEncoder,
  unetEncoderParameters,
  unetParameters,
} from "./index.js";
import { checkUNetCase, namedInputs, predict } from "./unet-case.test-support.js";

/** Reference data computed by diffusers 0.27.2: see fixtures/README.md. */
const fixture = (name: string) => referenceCase(new URL(`../fixtures/${name}/`, import.meta.url));

describe.each(testBackends)("unet on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it.each(["sdxs", "sdxs09", "sd21", "sd15", "bksdm_tiny", "sdxl", "vega", "asym", "lcm"])(
    "has diffusers' predictions, features and gradients, also for sizes that do not halve evenly: unet_%s_mini",
    async (name) => expectCase(await checkUNetCase(fixture(`unet_${name}_mini`), run)),
  );

  it("refuses a latent consistency model's inputs without the guidance scale's embedding, and others with it", async () => {
    const config = parseUNetConfig(await fixture("unet_lcm_mini").json("config.json"));
    const io = await fixture("unet_lcm_mini").tensors("io.safetensors");
    const lcmWeights = await fixture("unet_lcm_mini").tensors("weights.safetensors");
    const { R: _, timestep_cond: embedding, ...inputs } = select(io, "in.");
    await expect(run(predict(config), lcmWeights, inputs)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("time_cond_proj_dim is 10, so guidanceEmbedding must be given"),
    });
    const other = { ...inputs, timestep_cond: HostTensor.filled([2, 9], 0) };
    await expect(run(predict(config), lcmWeights, other)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    const plain = { ...config, time_cond_proj_dim: null };
    await expect(run(predict(plain), lcmWeights, { ...inputs, timestep_cond: embedding! })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });

  const tiny = parseUNetConfig({
    down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D"],
    up_block_types: ["CrossAttnUpBlock2D", "UpBlock2D"],
    mid_block_type: null,
    block_out_channels: [4, 8],
    layers_per_block: [1, 2],
    attention_head_dim: 2,
    norm_num_groups: 2,
    cross_attention_dim: 6,
  });
  const sample = HostTensor.from(
    [2, 4, 4, 4],
    Array.from({ length: 128 }, (_, index) => Math.sin(index)),
  );
  const context = HostTensor.from(
    [2, 3, 6],
    Array.from({ length: 36 }, (_, index) => Math.cos(index)),
  );
  const weights = initialize(unetParameters(tiny), 1);
  const withMid = { ...tiny, mid_block_type: "UNetMidBlock2DCrossAttn" } as const;
  const midWeights = initialize(unetParameters(withMid), 2);

  it("takes one timestep for the whole batch", async () => {
    const shared = { sample, encoder_hidden_states: context };
    const one = await run(predict(tiny), weights, { ...shared, timestep: HostTensor.from([1], [7]) });
    const each = await run(predict(tiny), weights, { ...shared, timestep: HostTensor.from([2], [7, 7]) });
    expectOutput("eps", one["eps"], each["eps"]);
  });

  it("gives the encoder's features without the up stages' parameters", async () => {
    const inputs = { sample, timestep: HostTensor.from([2], [1, 999]), encoder_hidden_states: context };
    const encoderWeights = Object.fromEntries(
      Object.keys(unetEncoderParameters(tiny)).map((name) => [name, weights[name] as HostTensor]),
    );
    const program = <T>(ops: Ops<T>, params: TensorMap<T>, given: TensorMap<T>): TensorMap<T> =>
      namedFeatures(unetEncoder(ops, scope(ops, params), tiny, namedInputs(given)));
    const features = await run(program, encoderWeights, inputs);
    const whole = await run(predict(tiny), weights, inputs);
    expect(Object.keys(features)).toContain("down_blocks.1.res.1");
    for (const [name, feature] of Object.entries(features)) expectOutput(name, feature, whole[name]);
  });

  it("adds a ControlNet's residuals to the skip connections and to the lowest resolution", async () => {
    // Linear in each residual only at its own place: zeros change nothing, other values do, and a wrong number is an error.
    const controlled =
      (count: number, value: number) =>
      <T>(ops: Ops<T>, params: TensorMap<T>, inputs: TensorMap<T>): TensorMap<T> => {
        const p = scope(ops, params);
        const { convIn, downResiduals } = unetEncoder(ops, p, tiny, namedInputs(inputs));
        const like = (x: T): T => ops.broadcastTo(ops.scalar(value), ops.shape(x));
        const skips = [convIn, ...downResiduals.flat()];
        const controlResiduals = { down: skips.slice(0, count).map(like), mid: like(skips.at(-1) as T) };
        return { eps: unet(ops, p, tiny, { ...namedInputs(inputs), controlResiduals }).sample };
      };
    const inputs = { sample, timestep: HostTensor.from([2], [1, 999]), encoder_hidden_states: context };
    const plain = await run(predict(tiny), weights, inputs);
    const zero = await run(controlled(5, 0), weights, inputs);
    const one = await run(controlled(5, 1), weights, inputs);
    expectOutput("eps", zero["eps"], plain["eps"]);
    expect([...(one["eps"]?.data ?? [])]).not.toEqual([...(plain["eps"]?.data ?? [])]);
    await expect(run(controlled(4, 0), weights, inputs)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
  });

  it("has the same gradients where each block is computed again for them", async () => {
    const learning = (gradientCheckpointing: boolean) =>
      withGradients((ops, params, inputs) => {
        const { sample, features } = unet(ops, scope(ops, params), withMid, {
          ...namedInputs(inputs),
          gradientCheckpointing,
        });
        const middle = features.downBlocks[0]!; // distillation differentiates features as well
        return { loss: ops.add(ops.mean(ops.square(sample)), ops.mean(ops.square(middle))) };
      }, Object.keys(midWeights));
    const inputs = { sample, timestep: HostTensor.from([2], [1, 999]), encoder_hidden_states: context };
    const plain = await run(learning(false), midWeights, inputs);
    const again = await run(learning(true), midWeights, inputs);
    for (const [name, tensor] of Object.entries(plain)) expectOutput(name, again[name], tensor);
  });

  it("names the input that does not fit the configuration", async () => {
    const timestep = HostTensor.from([2], [1, 999]);
    const wrong = HostTensor.filled([2, 3, 5], 0);
    await expect(run(predict(tiny), weights, { sample, timestep, encoder_hidden_states: wrong })).rejects.toMatchObject(
      {
        code: "SHAPE_MISMATCH",
        message: expect.stringContaining("encoderHiddenStates must be [2, tokens, 6], got [2, 3, 5]"),
      },
    );
    const timesteps = HostTensor.filled([3], 1);
    await expect(
      run(predict(tiny), weights, { sample, timestep: timesteps, encoder_hidden_states: context }),
    ).rejects.toMatchObject({
      message: expect.stringContaining("timestep must be [2 or 1], got [3]"),
    });
    const addedConditions = { text_embeds: HostTensor.filled([2, 1], 0), time_ids: HostTensor.filled([2, 6], 0) };
    await expect(
      run(predict(tiny), weights, { sample, timestep, encoder_hidden_states: context, ...addedConditions }),
    ).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  it("embeds timesteps as sines and cosines of 10000^(-i / half) t", async () => {
    const program = <T>(ops: Ops<T>, _: TensorMap<T>, { t }: TensorMap<T>): TensorMap<T> => ({
      embedding: sinusoidalEmbedding(ops, t as T, 4, { cosineFirst: false, frequencyShift: 0 }),
    });
    const { embedding } = await run(program, {}, { t: HostTensor.from([2], [0, 3]) });
    const expected = [0, 0, 1, 1, Math.sin(3), Math.sin(0.03), Math.cos(3), Math.cos(0.03)];
    expectOutput("embedding", embedding, HostTensor.from([2, 4], expected));
  });
});

describe("guidanceScaleEmbedding", () => {
  it.each([
    ["even", 256],
    ["odd", 7],
  ])("is diffusers' get_guidance_scale_embedding for the scale less 1, %s features", async (name, features) => {
    const expected = await fixture("unet_lcm_mini").tensors("guidance-7.5.safetensors");
    const embedding = guidanceScaleEmbedding(7.5, features);
    expect(embedding.shape).toEqual([1, features]);
    // Angles reach 6500, where float32 has 0.0005 between two numbers.
    embedding.data.forEach((value, index) => expect(Math.abs(value - expected[name]!.data[index]!)).toBeLessThan(5e-4));
  });
});
