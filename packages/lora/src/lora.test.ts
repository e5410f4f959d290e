import { beforeAll, describe, expect, it } from "vitest";
import * as ort from "onnxruntime-node";
import {
  HostTensor,
  initialize,
  linear,
  mapTensors,
  prefixed,
  random,
  scope,
  select,
  withGradients,
  zeros,
  type Ops,
  type Scope,
  type Program,
  type TensorMap,
} from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import {
  expectCase,
  expectOutput,
  maxAbs,
  maxAbsError,
  referenceCase,
  testBackends,
  type RunOnce,
} from "@sdxs/tensor/testing";
import { parseUNetConfig, unetParameters } from "@sdxs/tiny-unet";
import {
  applyLora,
  loraParameters,
  loraScope,
  loraTargets,
  mergeLora,
  readLora,
  unmergeLora,
  type Lora,
} from "./index.js";
import { checkLoraCase } from "./lora-case.test-support.js";

/** Reference data computed by diffusers 0.27.2: see fixtures/README.md. */
const fixture = (name: string) => referenceCase(new URL(`../fixtures/${name}/`, import.meta.url));

describe.each(testBackends)("a LoRA on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it.each(["lora_attn", "lora_wide"])(
    "has diffusers' predictions from each of four files, added as it runs or merged: %s",
    async (name) => expectCase(await checkLoraCase(fixture(name), run)),
  );

  const network = {
    "linear.weight": random(1).normal([6, 5]),
    "conv.weight": random(2).normal([4, 3, 3, 3]),
    "conv.bias": random(3).normal([4]),
  };
  const lora = {
    params: {
      "linear.lora_A.weight": random(4).normal([2, 5]),
      "linear.lora_B.weight": random(5).normal([6, 2]),
      "conv.lora_A.weight": random(6).normal([3, 3, 3, 3]),
      "conv.lora_B.weight": random(7).normal([4, 3, 1, 1]),
    },
    alphas: { conv: 1.5 },
  };

  it("gives a network that finds its parameters in a scope the same weights as applyLora, and biases as they are", async () => {
    const named = { ...prefixed(network, "blocks.0."), ...prefixed(lora.params, "lora.blocks.0.") };
    const alphas = { "blocks.0.conv": 1.5 };
    const program = <T>(ops: Ops<T>, params: TensorMap<T>): Record<string, T> => {
      const adapter = { params: select(params, "lora."), alphas };
      const p: Scope<T> = loraScope(ops, scope(ops, params), adapter).at("blocks").at(0);
      const expected = applyLora(ops, params, [adapter]);
      return {
        linear: ops.sub(p.at("linear").param("weight", [6, 5], zeros), expected["blocks.0.linear.weight"]!),
        conv: ops.sub(p.at("conv").param("weight", [4, 3, 3, 3], zeros), expected["blocks.0.conv.weight"]!),
        change: ops.sub(p.at("conv").param("weight", [4, 3, 3, 3], zeros), params["blocks.0.conv.weight"]!),
        bias: p.at("conv").param("bias", [4], zeros),
      };
    };
    const { linear: linearDifference, conv, change, bias } = await run(program, named, {});
    expect(maxAbs(linearDifference!)).toBe(0);
    expect(maxAbs(conv!)).toBe(0);
    expect(maxAbs(change!)).toBeGreaterThan(0.1);
    expectOutput("bias", bias, network["conv.bias"]);
  });

  it("adds several adapters with weights, of different ranks, to the layers that each has", async () => {
    const second = {
      params: {
        "linear.lora_A.weight": random(8).normal([1, 5]),
        "linear.lora_B.weight": random(9).normal([6, 1]),
      },
      alphas: { linear: 3 },
    };
    const program = <T>(ops: Ops<T>, params: TensorMap<T>): TensorMap<T> =>
      applyLora(ops, select(params, "net."), [
        { params: select(params, "a."), alphas: lora.alphas, weight: 0.7 },
        { params: select(params, "b."), alphas: second.alphas, weight: -2 },
      ]);
    const params = { ...prefixed(network, "net."), ...prefixed(lora.params, "a."), ...prefixed(second.params, "b.") };
    const adapted = await run(program, params, {});

    const product = product2(lora.params["linear.lora_B.weight"], lora.params["linear.lora_A.weight"]);
    const other = product2(second.params["linear.lora_B.weight"], second.params["linear.lora_A.weight"]);
    const expected = Array.from(network["linear.weight"].data, (w, i) => w + 0.7 * product[i]! - 2 * 3 * other[i]!);
    expectOutput("linear", adapted["linear.weight"], HostTensor.from([6, 5], expected));
    const kernel = product2(lora.params["conv.lora_B.weight"], lora.params["conv.lora_A.weight"]);
    const convolved = Array.from(network["conv.weight"].data, (w, i) => w + ((0.7 * 1.5) / 3) * kernel[i]!);
    expectOutput("conv", adapted["conv.weight"], HostTensor.from([4, 3, 3, 3], convolved));
    expect(adapted["conv.bias"]).toEqual(network["conv.bias"]);

    const merged = mergeLora(network, [
      { ...lora, weight: 0.7 },
      { ...second, weight: -2 },
    ]);
    for (const name of Object.keys(network)) expectOutput(name, adapted[name], merged[name]);
  });

  it("has the gradients s B^T G and s G A^T, where G is that of the adapted weight", async () => {
    const G = random(10).normal([6, 5]);
    const scale = (0.5 * 4) / 2; // weight alpha / rank
    const program: Program = (ops, params, { G }) => {
      const adapter = { params: select(params, "lora."), alphas: { linear: 4 }, weight: 0.5 };
      const adapted = applyLora(ops, select(params, "net."), [adapter]);
      return { loss: ops.sum(ops.mul(adapted["linear.weight"]!, G!)) };
    };
    const { "linear.lora_A.weight": A, "linear.lora_B.weight": B } = lora.params;
    const params = {
      "net.linear.weight": network["linear.weight"],
      "lora.linear.lora_A.weight": A,
      "lora.linear.lora_B.weight": B,
    };
    const names = ["lora.linear.lora_A.weight", "lora.linear.lora_B.weight"];
    const grads = await run(withGradients(program, names), params, { G });
    const times = (value: number) => value * scale;
    const gradientA = product2(transpose(B), G).map(times);
    const gradientB = product2(G, transpose(A)).map(times);
    expectOutput("A", grads["grad.lora.linear.lora_A.weight"], HostTensor.from([2, 5], gradientA));
    expectOutput("B", grads["grad.lora.linear.lora_B.weight"], HostTensor.from([6, 2], gradientB));
  });
});

describe("training", () => {
  it("learns what a fixed layer lacks, in the rank that it has", async () => {
    // The target is the layer plus a matrix of rank 1, which a LoRA of rank 1 can reach.
    const weight = random(1).normal([6, 8]);
    const lacking = product2(random(2).normal([6, 1]), random(3).normal([1, 8]));
    const target = HostTensor.from(
      [6, 8],
      Array.from(weight.data, (w, i) => w + lacking[i]!),
    );
    const lora = loraParameters({ "layer.to_q.weight": weight }, { rank: 1, targets: ["to_q"] });
    const program: Program = (ops, params, { x, target }) => {
      const adapter = { params: select(params, "lora."), alphas: lora.alphas };
      const adapted = applyLora(ops, { "layer.to_q.weight": params["layer.to_q.weight"]! }, [adapter]);
      const difference = ops.sub(
        linear(ops, x!, adapted["layer.to_q.weight"]!, undefined),
        linear(ops, x!, target!, undefined),
      );
      return { loss: ops.mean(ops.square(difference)) };
    };
    const backend = onnxBackend({ ort });
    const trainable = backend.trainable(prefixed(initialize(lora.params, 7), "lora."), { weightDecay: 0 });
    const inputs = { x: random(4).normal([64, 8]), target };
    const step = await backend.compile(withGradients(program, Object.keys(trainable.params)), {
      params: prefixed(lora.params, "lora."),
      frozen: { "layer.to_q.weight": weight },
      inputs: mapTensors(inputs, ({ shape }) => ({ shape })),
    });
    const losses: number[] = [];
    for (let index = 0; index < 300; index++) {
      const { loss, ...grads } = await step.run(trainable.params, inputs);
      losses.push((await backend.download(loss!)).item());
      trainable.accumulate(select(grads, "grad."));
      await trainable.step({ learningRate: 0.05 });
    }
    expect(losses[0]).toBeGreaterThan(1);
    expect(losses.at(-1)).toBeLessThan(1e-4);
  });
});

describe("mergeLora", () => {
  it("gives diffusers' merged weight, of a linear layer and of a convolution", async () => {
    for (const name of ["lora_attn", "lora_wide"]) {
      const { targets } = (await fixture(name).json("meta.json")) as { targets: string[] };
      const weights = await fixture(name).tensors("weights.safetensors");
      const tensors = await fixture(name).tensors("pytorch_lora_weights.safetensors");
      const { loras } = readLora({ tensors }, { unet: weights });
      const merged = mergeLora(weights, [loras.unet]);
      const reference = (await fixture(name).tensors("io.safetensors"))["out.merged_weight_example"];
      expectOutput(name, merged[`${targets[0]}.weight`], reference);
      expect(Object.keys(merged)).toEqual(Object.keys(weights));
      const changed = Object.keys(weights).filter((parameter) => merged[parameter] !== weights[parameter]);
      expect(changed.sort()).toEqual(targets.map((target) => `${target}.weight`).sort());
    }
  });

  it("is undone by unmergeLora within 2^-23 of the largest weight", () => {
    const network = { "layer.weight": random(1).normal([32, 32]) };
    const params = {
      "layer.lora_A.weight": random(2).normal([4, 32]),
      "layer.lora_B.weight": random(3).normal([32, 4]),
    };
    const adapters = [{ params, alphas: { layer: 8 }, weight: 0.3 }];
    const merged = mergeLora(network, adapters);
    const restored = unmergeLora(merged, adapters)["layer.weight"]!;
    const largest = Math.max(maxAbs(merged["layer.weight"]!), maxAbs(network["layer.weight"]));
    expect(maxAbsError(merged["layer.weight"]!, network["layer.weight"])).toBeGreaterThan(1);
    expect(maxAbsError(restored, network["layer.weight"])).toBeLessThanOrEqual(2 ** -23 * largest);
  });

  it("lists everything in which a LoRA does not fit the network", () => {
    const network = {
      "a.weight": HostTensor.filled([3, 2], 0),
      "b.weight": HostTensor.filled([3], 0),
      "c.weight": HostTensor.filled([3, 2, 3, 3], 0),
    };
    const pair = (layer: string, A: number[], B: number[]) => ({
      [`${layer}.lora_A.weight`]: HostTensor.filled(A, 0),
      [`${layer}.lora_B.weight`]: HostTensor.filled(B, 0),
    });
    const { "d.lora_A.weight": _, ...half } = pair("d", [1, 2], [3, 1]);
    const params = {
      ...pair("a", [2, 2], [3, 1]),
      ...pair("b", [1, 2], [3, 1]),
      ...pair("c", [1, 2], [3, 1]),
      ...half,
      other: HostTensor.scalar(1),
    };
    const lora: Lora<HostTensor> = { params, alphas: { e: 1 } };
    const expected = [
      "a has lora_A [2, 2] and lora_B [3, 1], its weight [3, 2]",
      "b is no linear or convolution layer of the network",
      "c has lora_A [1, 2] and lora_B [3, 1], its weight [3, 2, 3, 3]",
      "d is no linear or convolution layer of the network",
      "other is neither LAYER.lora_A.weight nor LAYER.lora_B.weight",
      "e has an alpha but no lora_A and lora_B",
    ];
    let message = "";
    try {
      mergeLora(network, [lora]);
    } catch (error) {
      message = String(error);
    }
    for (const line of expected) expect(message).toContain(line);
    expect(message).toContain("(6 of its entries)");
    const { "a.lora_B.weight": __, ...lacking } = pair("a", [1, 2], [3, 1]);
    expect(() => mergeLora(network, [{ params: lacking, alphas: {} }])).toThrow("a lacks lora_B (up)");
  });
});

describe("loraParameters", () => {
  const config = parseUNetConfig({
    down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D"],
    up_block_types: ["CrossAttnUpBlock2D", "UpBlock2D"],
    mid_block_type: null,
    block_out_channels: [4, 8],
    layers_per_block: 1,
    attention_head_dim: 2,
    norm_num_groups: 2,
    cross_attention_dim: 6,
  });
  const network = unetParameters(config);
  const layersOf = (lora: Lora<unknown>) => Object.keys(lora.alphas);

  it("adapts the attention's projections by default, with A normal of deviation 1 / rank and B zero", () => {
    const lora = loraParameters(network, { rank: 4 });
    expect(layersOf(lora)).toEqual(
      Object.keys(network)
        .filter((name) => /\.attn[12]\.(to_q|to_k|to_v|to_out\.0)\.weight$/.test(name))
        .map((name) => name.replace(/\.weight$/, "")),
    );
    const layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k";
    expect(lora.params[`${layer}.lora_A.weight`]).toEqual({ shape: [4, 6], init: { kind: "normal", std: 0.25 } });
    expect(lora.params[`${layer}.lora_B.weight`]).toEqual({ shape: [8, 4], init: { kind: "constant", value: 0 } });
    expect(lora.alphas[layer]).toBe(4);
    expect(Object.keys(lora.params)).toHaveLength(2 * layersOf(lora).length);
  });

  it("adapts convolutions, with A of the kernel's size and PEFT's default initialisation by choice", () => {
    const lora = loraParameters(network, { rank: 2, alpha: 1, targets: loraTargets.convolutions, init: "kaiming" });
    const bound = 1 / Math.sqrt(4 * 9); // Kaiming's uniform with a = sqrt(5): 1 / sqrt(fan-in)
    expect(lora.params["down_blocks.0.downsamplers.0.conv.lora_A.weight"]).toEqual({
      shape: [2, 4, 3, 3],
      init: { kind: "uniform", bound },
    });
    expect(lora.params["up_blocks.1.resnets.0.conv_shortcut.lora_B.weight"]?.shape).toEqual([4, 2, 1, 1]);
    expect(layersOf(lora)).not.toContain("conv_in");
    expect(new Set(Object.values(lora.alphas))).toEqual(new Set([1]));
  });

  it("changes nothing before it is trained", () => {
    const weights = initialize(network, 1);
    const lora = loraParameters(network, { rank: 2, targets: Object.values(loraTargets).slice(0, 5).flat() });
    const merged = mergeLora(weights, [{ params: initialize(lora.params, 2), alphas: lora.alphas }]);
    expect(merged).toEqual(weights);
  });

  it("names a target that matches nothing and a rank that is none", () => {
    expect(() => loraParameters(network, { rank: 4, targets: ["to_q", "to_z", /^nothing$/] })).toThrow(
      /is matched by to_z, \/\^nothing\$\//,
    );
    expect(() => loraParameters(network, { rank: 0 })).toThrow("rank must be a whole number of at least 1, got 0");
    expect(() => loraParameters(network, { rank: 1, alpha: Infinity })).toThrow("alpha must be finite");
    expect(() => loraParameters(network, { rank: 1, targets: [] })).toThrow("an empty list of targets");
  });
});

/** a b, where axes behind the second count as one, in double precision. */
function product2(a: HostTensor, b: HostTensor): number[] {
  const [rows = 1, inner = 1] = a.shape;
  const columns = b.data.length / inner;
  return Array.from({ length: rows * columns }, (_, index) => {
    const row = Math.floor(index / columns);
    let sum = 0;
    for (let i = 0; i < inner; i++) sum += a.data[row * inner + i]! * b.data[i * columns + (index % columns)]!;
    return sum;
  });
}

function transpose(matrix: HostTensor): HostTensor {
  const [rows = 1, columns = 1] = matrix.shape;
  return HostTensor.from(
    [columns, rows],
    Array.from(matrix.data, (_, index) => matrix.data[(index % rows) * columns + Math.floor(index / rows)]!),
  );
}
