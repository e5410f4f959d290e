import { beforeAll, describe, expect, it } from "vitest";
import {
  HostTensor,
  initialize,
  mapTensors,
  prefixed,
  random,
  scope,
  select,
  type Ops,
  type TensorMap,
} from "@sdxs/tensor";
import { expectCase, expectOutput, referenceCase, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { copyParameters, parseUNetConfig, unet, unetEncoder, unetParameters } from "@sdxs/tiny-unet";
import {
  combineResiduals,
  conditionalHalfOnly,
  controlNet,
  controlNetFromUNet,
  controlNetParameters,
  type ControlNetConfig,
  type ControlNetOptions,
} from "./index.js";
import { checkControlNetCase, controlledNoise, named, namedInputs } from "./controlnet-case.test-support.js";

/** Reference data computed by diffusers 0.27.2: see fixtures/README.md. */
const fixture = (name: string) => referenceCase(new URL(`../fixtures/${name}/`, import.meta.url));

type Options = ControlNetOptions<never>;

const control =
  (config: ControlNetConfig, options: Options = {}) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, inputs: TensorMap<T>): TensorMap<T> =>
    named(controlNet(ops, scope(ops, params), config, namedInputs(inputs), options));

describe.each(testBackends)("controlNet on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("has diffusers' residuals, guided noise and gradients", async () => {
    expectCase(await checkControlNetCase(fixture("controlnet_sdxs_mini"), run));
  });

  it("has diffusers' residuals with attention in the mid stage", async () => {
    // The fixture is without the U-Net.
    const { comparisons } = await checkControlNetCase(fixture("controlnet_sdxs_midattn_mini"), run);
    expectCase({ comparisons, unchecked: [] });
  });

  const tinyUNet = parseUNetConfig({
    block_out_channels: [8, 16],
    down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D"],
    up_block_types: ["CrossAttnUpBlock2D", "UpBlock2D"],
    layers_per_block: 1,
    attention_head_dim: 2,
    norm_num_groups: 4,
    cross_attention_dim: 6,
    addition_embed_type: "text_time",
    addition_time_embed_dim: 4,
    projection_class_embeddings_input_dim: 10 + 6 * 4,
  });
  const plan = controlNetFromUNet(tinyUNet, { conditioning_embedding_out_channels: [4, 6, 6, 8] });
  const tiny = plan.config;
  const unetWeights = initialize(unetParameters(tinyUNet), 1);
  /** As a new ControlNet begins. */
  const fresh = { ...initialize(controlNetParameters(tiny), 2), ...copyParameters(plan, unetWeights) };
  /** As a trained one might be: nothing is zero. */
  const trained = mapTensors(fresh, (tensor, name) =>
    plan.initialized.includes(name) ? random(name).normal(tensor.shape) : tensor,
  );
  const inputs = {
    sample: random(3).normal([2, 4, 6, 5]),
    timestep: HostTensor.from([2], [20, 999]),
    encoder_hidden_states: random(4).normal([2, 3, 6]),
    controlnet_cond: random(5).uniform([2, 3, 48, 40]),
    text_embeds: random(6).normal([2, 10]),
    time_ids: HostTensor.from([2, 6], [64, 48, 0, 0, 64, 48, 32, 48, 8, 0, 64, 48]),
  };

  it("changes nothing before it is trained", async () => {
    const program = <T>(ops: Ops<T>, params: TensorMap<T>, given: TensorMap<T>): TensorMap<T> => ({
      controlled: controlledNoise(ops, { unet: tinyUNet, controlnet: tiny }, params, given, {}),
      plain: unet(ops, scope(ops, params).at("unet"), tinyUNet, namedInputs(given)).sample,
    });
    const params = { ...prefixed(unetWeights, "unet."), ...prefixed(fresh, "controlnet.") };
    const { controlled, plain } = await run(program, params, inputs);
    expect(controlled?.data).toEqual(plain?.data);
  });

  it("is the U-Net's encoder, SDXL's conditions included, where the zero convolutions pass everything on", async () => {
    const identity = mapTensors(fresh, (tensor, name) => {
      if (!/^controlnet_(down_blocks|mid_block)\b.*weight$/.test(name)) return tensor;
      const [channels = 1] = tensor.shape;
      const diagonal = Array.from({ length: channels ** 2 }, (_, index) => Number(index % (channels + 1) === 0));
      return HostTensor.from(tensor.shape, diagonal);
    });
    const encoder = <T>(ops: Ops<T>, params: TensorMap<T>, given: TensorMap<T>): TensorMap<T> => {
      const features = unetEncoder(ops, scope(ops, params), tinyUNet, namedInputs(given));
      return named({ down: [features.convIn, ...features.downResiduals.flat()], mid: features.midBlock as T });
    };
    const { controlnet_cond: _, ...unetInputs } = inputs;
    const expected = await run(encoder, unetWeights, unetInputs);
    const results = await run(control(tiny), identity, inputs);
    expect(Object.keys(results)).toEqual(["down.0", "down.1", "down.2", "down.3", "mid"]);
    for (const [name, residual] of Object.entries(results)) expectOutput(name, residual, expected[name]);
  });

  it("weighs residuals from 0.1 to 1 in guess mode, evenly in the logarithm", async () => {
    const plain = await run(control(tiny), trained, inputs);
    const guessed = await run(control(tiny, { guessMode: true, conditioningScale: 2 }), trained, inputs);
    // torch.logspace(-1, 0, 5)
    const weights = [0.1, 0.17782794, 0.31622777, 0.56234133, 1];
    for (const [index, name] of ["down.0", "down.1", "down.2", "down.3", "mid"].entries()) {
      const { shape, data } = plain[name]!;
      const expected = HostTensor.from(
        shape,
        [...data].map((value) => 2 * (weights[index] ?? 0) * value),
      );
      expectOutput(name, guessed[name], expected);
    }
  });

  it("averages over the image under global_pool_conditions, where guess mode weighs nothing", async () => {
    const pooled = { ...tiny, global_pool_conditions: true };
    const plain = await run(control(tiny), trained, inputs);
    const results = await run(control(pooled, { guessMode: true }), trained, inputs);
    for (const [name, { shape, data }] of Object.entries(plain)) {
      const [batch = 1, channels = 1, height = 1, width = 1] = shape;
      const means = Array.from({ length: batch * channels }, (_, index) => {
        const pixels = [...data].slice(index * height * width, (index + 1) * height * width);
        return pixels.reduce((sum, value) => sum + value, 0) / pixels.length;
      });
      expectOutput(name, results[name], HostTensor.from([batch, channels, 1, 1], means));
    }
    const program = <T>(ops: Ops<T>, params: TensorMap<T>, given: TensorMap<T>): TensorMap<T> => ({
      eps: controlledNoise(ops, { unet: tinyUNet, controlnet: pooled }, params, given, {}),
    });
    const params = { ...prefixed(unetWeights, "unet."), ...prefixed(trained, "controlnet.") };
    expect((await run(program, params, inputs))["eps"]?.shape).toEqual([2, 4, 6, 5]);
  });

  it("reverses the channels of the condition for a network trained on bgr", async () => {
    const { data, shape } = inputs.controlnet_cond;
    const pixels = 48 * 40;
    const reversed = Array.from({ length: data.length }, (_, index) => {
      const channel = Math.floor(index / pixels) % 3;
      return data[index + (2 - 2 * channel) * pixels]!;
    });
    const rgb = await run(control(tiny), trained, { ...inputs, controlnet_cond: HostTensor.from(shape, reversed) });
    const bgr = await run(control({ ...tiny, controlnet_conditioning_channel_order: "bgr" }), trained, inputs);
    for (const [name, residual] of Object.entries(bgr)) expectOutput(name, residual, rgb[name]);
  });

  it("takes one condition for the whole batch, and a scale for each sample", async () => {
    const one = HostTensor.from([1, 3, 48, 40], [...inputs.controlnet_cond.data.slice(0, 3 * 48 * 40)]);
    const both = HostTensor.from([2, 3, 48, 40], [...one.data, ...one.data]);
    const program = <T>(ops: Ops<T>, params: TensorMap<T>, { scale, ...given }: TensorMap<T>): TensorMap<T> => {
      const conditioningScale = scale as T;
      return named(controlNet(ops, scope(ops, params), tiny, namedInputs(given), { conditioningScale }));
    };
    const scale = HostTensor.from([2, 1, 1, 1], [0, 0.5]);
    const scaled = await run(program, trained, { ...inputs, controlnet_cond: one, scale });
    const plain = await run(control(tiny), trained, { ...inputs, controlnet_cond: both });
    for (const [name, { shape, data }] of Object.entries(plain)) {
      const expected = [...data].map((value, index) => (index < data.length / 2 ? 0 : 0.5 * value));
      expectOutput(name, scaled[name], HostTensor.from(shape, expected));
    }
  });

  it("adds up several ControlNets, each with its scale", async () => {
    const program = <T>(ops: Ops<T>, params: TensorMap<T>, given: TensorMap<T>): TensorMap<T> => {
      const p = scope(ops, params);
      const shared = namedInputs(given);
      const edges = controlNet(ops, p, tiny, shared, { conditioningScale: 0.8 });
      const depth = controlNet(ops, p, tiny, { ...shared, condition: given["depth"] as T }, { conditioningScale: 0.5 });
      return {
        ...prefixed(named(combineResiduals(ops, [edges, depth])), "sum."),
        ...prefixed(named(edges), "edges."),
        ...prefixed(named(depth), "depth."),
      };
    };
    const results = await run(program, trained, { ...inputs, depth: random(7).uniform([2, 3, 48, 40]) });
    for (const [name, sum] of Object.entries(select(results, "sum."))) {
      const edges = results[`edges.${name}`]!;
      const depth = results[`depth.${name}`]!;
      const expected = [...edges.data].map((value, index) => value + depth.data[index]!);
      expectOutput(name, sum, HostTensor.from(sum.shape, expected));
    }
  });

  it("refuses to combine none, and ControlNets for different U-Nets", async () => {
    const combined =
      (counts: readonly number[]) =>
      <T>(ops: Ops<T>, _: TensorMap<T>, { x }: TensorMap<T>): TensorMap<T> => {
        const residuals = counts.map((count) => ({ down: Array.from({ length: count }, () => x as T), mid: x as T }));
        return named(combineResiduals(ops, residuals));
      };
    const x = { x: HostTensor.filled([1], 1) };
    await expect(run(combined([]), {}, x)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(run(combined([2, 3]), {}, x)).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
      message: expect.stringContaining("got 2 and 3"),
    });
  });

  it("puts zeros before the conditional half's residuals", async () => {
    const program = <T>(ops: Ops<T>, _: TensorMap<T>, { x }: TensorMap<T>): TensorMap<T> =>
      named(conditionalHalfOnly(ops, { down: [x as T], mid: ops.neg(x as T) }));
    const results = await run(program, {}, { x: HostTensor.from([2, 1, 1, 2], [1, 2, 3, 4]) });
    expect(results["down.0"]).toMatchObject({ shape: [4, 1, 1, 2] });
    expect([...(results["down.0"]?.data ?? [])]).toEqual([0, 0, 0, 0, 1, 2, 3, 4]);
    expect([...(results["mid"]?.data ?? [])].slice(4)).toEqual([-1, -2, -3, -4]);
  });

  it("names the input that does not fit the configuration", async () => {
    const attempt = (given: Record<string, HostTensor>) => run(control(tiny), trained, { ...inputs, ...given });
    const condition = HostTensor.filled([2, 3, 6, 5], 0);
    await expect(attempt({ controlnet_cond: condition })).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
      message: expect.stringContaining("controlNet: condition must be [2 or 1, 3, 48, 40]"),
    });
    await expect(attempt({ encoder_hidden_states: HostTensor.filled([2, 3, 5], 0) })).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
      message: expect.stringContaining("controlNet: encoderHiddenStates must be [2, tokens, 6]"),
    });
    const { text_embeds: _, time_ids: __, ...without } = inputs;
    await expect(run(control(tiny), trained, without)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("controlNet: addition_embed_type"),
    });
    const program = <T>(ops: Ops<T>, params: TensorMap<T>, given: TensorMap<T>): TensorMap<T> => {
      const conditioningScale = given["timestep"] as T; // [2] would scale the width
      return named(controlNet(ops, scope(ops, params), tiny, namedInputs(given), { conditioningScale }));
    };
    await expect(run(program, trained, inputs)).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
      message: expect.stringContaining("conditioningScale must be a number, [1] or [2, 1, 1, 1], got [2]"),
    });
  });
});
