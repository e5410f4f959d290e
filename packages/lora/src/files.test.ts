import { describe, expect, it } from "vitest";
import {
  HostTensor,
  initialize,
  mapTensors,
  readSafetensors,
  writeSafetensors,
  type Shape,
  type TensorMap,
} from "@sdxs/tensor";
import { expectOutput, readModelListing, referenceCase } from "@sdxs/tensor/testing";
import { loraParameters, mergeLora, readLora, writeLora, type Lora } from "./index.js";

/** Reference data computed by diffusers 0.27.2: see fixtures/README.md. */
const fixture = (name: string) => referenceCase(new URL(`../fixtures/${name}/`, import.meta.url));

const shapesOf = async (model: string): Promise<Record<string, { shape: Shape }>> => {
  const file = new URL(`../../tiny-unet/fixtures/full-models/${model}.json.gz`, import.meta.url);
  const { parameters } = await readModelListing(file);
  return Object.fromEntries(parameters.map(([name, shape]) => [name, { shape }]));
};

const errorOf = (act: () => unknown): Error & { code?: string } => {
  try {
    act();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
};

const network = { "a.to_q.weight": { shape: [3, 2] }, "b.to_out.0.weight": { shape: [2, 3] } };
/** An adaptation of a.to_q of rank 1. */
const A = HostTensor.from([1, 2], [1, 2]);
const B = HostTensor.from([3, 1], [3, 4, 5]);

describe.each(["lora_attn", "lora_wide"])("the files of %s", (name) => {
  const load = async (file: string) => ({
    weights: await fixture(name).tensors("weights.safetensors"),
    tensors: await fixture(name).tensors(`${file}.safetensors`),
  });

  it("hold the same LoRA in each naming, and alphas where they differ from the rank", async () => {
    const meta = (await fixture(name).json("meta.json")) as { targets: string[]; alpha_varied: Record<string, number> };
    const { weights, tensors } = await load("pytorch_lora_weights");
    const lora = readLora({ tensors }, { unet: weights }).loras.unet;
    expect(lora.alphas).toEqual({});
    expect(Object.keys(lora.params).sort()).toEqual(
      meta.targets.flatMap((target) => [`${target}.lora_A.weight`, `${target}.lora_B.weight`]).sort(),
    );
    const kohya = readLora({ tensors: (await load("kohya_lora_alpha_varied")).tensors }, { unet: weights }).loras.unet;
    expect(kohya).toEqual({ params: lora.params, alphas: meta.alpha_varied });
  });

  it("hold alphas exactly in diffusers' naming where alpha / rank is a power of two", async () => {
    const { weights, tensors } = await load("kohya_lora_alpha_varied"); // rank 4, alphas 1, 2 and 8
    const { unet } = readLora({ tensors }, { unet: weights }).loras;
    const written = writeLora({ unet }, { unet: weights }, "diffusers");
    const read = readLora({ tensors: written }, { unet: weights }).loras.unet;
    for (const [layer, alpha] of Object.entries(unet.alphas)) {
      const scaled = unet.params[`${layer}.lora_B.weight`]!.data.map((value) => (value * alpha) / 4);
      expect(read.params[`${layer}.lora_B.weight`]!.data).toEqual(scaled);
    }
  });

  it("may be of half precision", async () => {
    const { weights, tensors } = await load("kohya_lora_alpha_varied");
    const whole = readLora({ tensors }, { unet: weights }).loras.unet;
    const file = readSafetensors(writeSafetensors(tensors, { dtype: "F16" }));
    const half = readLora(file, { unet: weights }).loras.unet;
    expect(half.alphas).toEqual(whole.alphas);
    for (const [parameter, reference] of Object.entries(whole.params)) {
      const difference = half.params[parameter]!.data.map((value, index) => Math.abs(value - reference.data[index]!));
      expect(Math.max(...difference)).toBeLessThan(2 ** -11 * Math.max(...reference.data.map(Math.abs)) + 2 ** -25);
    }
  });
});

describe("the U-Net's original names", () => {
  // The map of kohya's sd-scripts for SDXL: stages of two layers down and three up, each with a resampler but the last.
  const sdxl: [diffusers: string, original: string][] = [];
  for (const stage of [0, 1, 2]) {
    for (const layer of [0, 1]) {
      sdxl.push([`down_blocks_${stage}_resnets_${layer}_`, `input_blocks_${3 * stage + layer + 1}_0_`]);
      if (stage > 0)
        sdxl.push([`down_blocks_${stage}_attentions_${layer}_`, `input_blocks_${3 * stage + layer + 1}_1_`]);
    }
    for (const layer of [0, 1, 2]) {
      sdxl.push([`up_blocks_${stage}_resnets_${layer}_`, `output_blocks_${3 * stage + layer}_0_`]);
      if (stage < 2) sdxl.push([`up_blocks_${stage}_attentions_${layer}_`, `output_blocks_${3 * stage + layer}_1_`]);
    }
    if (stage < 2) {
      sdxl.push([`down_blocks_${stage}_downsamplers_0_conv`, `input_blocks_${3 * (stage + 1)}_0_op`]);
      sdxl.push([`up_blocks_${stage}_upsamplers_0_conv`, `output_blocks_${3 * stage + 2}_2_conv`]);
    }
  }
  sdxl.push(["mid_block_resnets_0_", "middle_block_0_"], ["mid_block_attentions_0_", "middle_block_1_"]);
  sdxl.push(["mid_block_resnets_1_", "middle_block_2_"]);
  sdxl.push(["time_embedding_linear_1", "time_embed_0"], ["time_embedding_linear_2", "time_embed_2"]);
  sdxl.push(["add_embedding_linear_1", "label_emb_0_0"], ["add_embedding_linear_2", "label_emb_0_2"]);
  sdxl.push(["conv_in", "input_blocks_0_0"], ["conv_out", "out_2"]);
  const inner: [diffusers: string, original: string][] = [
    ["conv1", "in_layers_2"],
    ["conv2", "out_layers_3"],
    ["time_emb_proj", "emb_layers_1"],
    ["conv_shortcut", "skip_connection"],
  ];
  const byKohyasMap = (name: string): string => {
    const [diffusers, original] = sdxl.find(([prefix]) => name.startsWith(prefix))!;
    const rest = name.slice(diffusers.length);
    return original + (inner.find(([layer]) => layer === rest)?.[1] ?? rest);
  };

  /** A LoRA on every layer; one shared tensor stands for all data. */
  const onAllLayers = (model: Readonly<Record<string, { shape: Shape }>>): Lora<HostTensor> => {
    const lora = loraParameters(model, { rank: 1, targets: [/./] });
    return {
      params: initialize(
        mapTensors(lora.params, (spec) => ({ ...spec, init: zero })),
        1,
      ),
      alphas: lora.alphas,
    };
  };
  const zero = { kind: "constant", value: 0 } as const;

  it("are those of kohya's files for SDXL, for every layer and in both directions", async () => {
    const unet = await shapesOf("sdxl_base_unet");
    const lora = onAllLayers(unet);
    const layers = Object.keys(lora.alphas);
    const tensors = writeLora({ unet: lora }, { unet }, "kohya-original");
    expect(Object.keys(tensors).filter((name) => name.endsWith(".alpha"))).toEqual(
      layers.map((layer) => `lora_unet_${byKohyasMap(layer.replaceAll(".", "_"))}.alpha`),
    );
    expect(tensors).toHaveProperty(["lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight"]);
    expect(readLora({ tensors }, { unet }).loras.unet).toEqual(lora);
  });

  it.each(["sd15_unet", "bk_sdm_tiny_unet", "segmind_vega_unet", "sdxs_512_paper_unet_sd21", "sdxs_512_0.9_unet"])(
    "and all other namings are read back for every layer of %s",
    async (model) => {
      const unet = await shapesOf(model);
      const lora = onAllLayers(unet);
      for (const naming of ["diffusers", "peft", "kohya", "kohya-original"] as const) {
        const { loras } = readLora({ tensors: writeLora({ unet: lora }, { unet }, naming) }, { unet });
        expect(loras.unet.params, naming).toEqual(lora.params);
      }
    },
  );

  it("count what a stage has: in Stable Diffusion 1.5 the first up stage has no transformers", async () => {
    const unet = await shapesOf("sd15_unet");
    const lora = loraParameters(unet, {
      rank: 1,
      targets: [/^(mid|up)_.*(samplers\.0\.conv|attentions\.0\.proj_in)$/],
    });
    const tensors = writeLora({ unet: { params: initialize(lora.params, 1), alphas: {} } }, { unet }, "kohya-original");
    const alphas = Object.keys(tensors).filter((name) => name.endsWith(".alpha"));
    // v1-inference.yaml: output_blocks.2 is a residual block and an upsampler, 5 and 8 have a transformer between.
    expect(alphas.sort()).toEqual(
      [
        "middle_block_1_proj_in",
        "output_blocks_2_1_conv",
        "output_blocks_3_1_proj_in",
        "output_blocks_5_2_conv",
        "output_blocks_6_1_proj_in",
        "output_blocks_8_2_conv",
        "output_blocks_9_1_proj_in",
      ].map((name) => `lora_unet_${name}.alpha`),
    );
  });
});

describe("readLora", () => {
  const a = { "a.to_q.lora_A.weight": A, "a.to_q.lora_B.weight": B };

  it.each<[string, string, string]>([
    ["diffusers", "unet.a.to_q.lora.down.weight", "unet.a.to_q.lora.up.weight"],
    ["diffusers, formerly", "unet.a.processor.to_q_lora.down.weight", "unet.a.processor.to_q_lora.up.weight"],
    ["diffusers, at first", "a.processor.to_q_lora.down.weight", "a.processor.to_q_lora.up.weight"],
    [
      "PEFT's state dict",
      "base_model.model.a.to_q.lora_A.default.weight",
      "base_model.model.a.to_q.lora_B.default.weight",
    ],
    ["PEFT's file", "base_model.model.a.to_q.lora_A.weight", "base_model.model.a.to_q.lora_B.weight"],
    ["kohya", "lora_unet_a_to_q.lora_down.weight", "lora_unet_a_to_q.lora_up.weight"],
  ])("understands the naming of %s", (_, down, up) => {
    const { loras } = readLora({ tensors: { [down]: A, [up]: B } }, { unet: network });
    expect(loras.unet).toEqual({ params: a, alphas: {} });
  });

  it("understands the former name of an attention's output", () => {
    const tensors = {
      "unet.b.processor.to_out_lora.down.weight": HostTensor.filled([1, 3], 1),
      "unet.b.processor.to_out_lora.up.weight": HostTensor.filled([2, 1], 1),
    };
    const { loras } = readLora({ tensors }, { unet: network });
    expect(Object.keys(loras.unet.params)).toEqual(["b.to_out.0.lora_A.weight", "b.to_out.0.lora_B.weight"]);
  });

  it("takes a convolution of 1 x 1 for a matrix", () => {
    const square = { "proj_in.weight": { shape: [3, 2, 1, 1] } };
    const tensors = { "lora_unet_proj_in.lora_down.weight": A, "lora_unet_proj_in.lora_up.weight": B };
    expect(Object.keys(readLora({ tensors }, { unet: square }).loras.unet.params)).toHaveLength(2);
  });

  it("takes alphas from the file's entries, PEFT's configuration or diffusers' metadata", () => {
    const tensors = { "unet.a.to_q.lora_A.weight": A, "unet.a.to_q.lora_B.weight": B };
    const alphaOf = (file: object) => readLora({ tensors, ...file }, { unet: network }).loras.unet.alphas["a.to_q"];
    expect(alphaOf({ adapterConfig: { peft_type: "LORA", r: 1, lora_alpha: 5 } })).toBe(5);
    expect(alphaOf({ adapterConfig: { lora_alpha: 5, alpha_pattern: { to_q: 7 } } })).toBe(7);
    const metadata = { lora_adapter_metadata: JSON.stringify({ "unet.lora_alpha": 6, "text_encoder.lora_alpha": 3 }) };
    expect(alphaOf({ metadata })).toBe(6);
    expect(alphaOf({ metadata: { format: "pt" } })).toBeUndefined();
    const withAlpha = { ...tensors, "unet.a.to_q.alpha": HostTensor.scalar(2) };
    expect(readLora({ tensors: withAlpha, metadata }, { unet: network }).loras.unet.alphas).toEqual({ "a.to_q": 2 });
  });

  it("takes alpha / sqrt(rank) as the scale of a rank-stabilised LoRA", () => {
    const tensors = {
      "base_model.model.a.to_q.lora_A.weight": HostTensor.filled([4, 2], 1),
      "base_model.model.a.to_q.lora_B.weight": HostTensor.filled([3, 4], 1),
    };
    const { alphas } = readLora({ tensors, adapterConfig: { lora_alpha: 6, use_rslora: true } }, { unet: network })
      .loras.unet;
    expect(alphas["a.to_q"]! / 4).toBe(6 / Math.sqrt(4));
  });

  it("names what it does not understand in a configuration", () => {
    const read = (adapterConfig: unknown) =>
      errorOf(() => readLora({ tensors: prefixed("unet."), adapterConfig }, { unet: network }));
    expect(read({ peft_type: "LOHA" })).toMatchObject({ code: "UNSUPPORTED_CONFIG" });
    expect(read({ alpha_pattern: { "to_[kv]": 3 } }).message).toContain('"to_[kv]", which names no adapted layer');
    expect(read({ alpha_pattern: { "to_[": 3 } }).message).toContain('"to_["');
    expect(read({ r: 2 }).message).toContain('"r" gives a.to_q the rank 2, but the file\'s has 1');
    expect(read({ rank_pattern: { to_q: 2 } }).message).toContain('"rank_pattern" gives a.to_q the rank 2');
    expect(read({ target_modules: ["to_k"] }).message).toContain(
      '"target_modules" is ["to_k"], but the file adapts a.to_q',
    );
    expect(read({ target_modules: ".*to_k" }).message).toContain('"target_modules"');
    expect(read({ target_modules: "(" }).message).toContain('"("');
    const metadata = { lora_adapter_metadata: "{" };
    expect(errorOf(() => readLora({ tensors: prefixed("unet."), metadata }, { unet: network }))).toMatchObject({
      code: "MALFORMED_FILE",
    });
  });

  it.each([
    ["use_dora", true],
    ["bias", "lora_only"],
    ["modules_to_save", ["conv_in"]],
    ["fan_in_fan_out", true],
    ["layer_replication", [[0, 4]]],
    ["init_lora_weights", "pissa_niter_4"],
    ["lora_bias", true],
    ["a_field_of_the_future", 1],
  ])("refuses the configuration's %s: %j by its name", (field, value) => {
    const adapterConfig = { lora_alpha: 4, [field]: value };
    expect(errorOf(() => readLora({ tensors: prefixed("unet."), adapterConfig }, { unet: network }))).toMatchObject({
      code: "UNSUPPORTED_CONFIG",
      message: expect.stringContaining(`"${field}" is ${JSON.stringify(value)}`),
    });
  });

  it("takes names without a prefix for those of the model that has such layers", () => {
    const clip = { "text_model.q_proj.weight": { shape: [3, 2] } };
    const tensors = {
      "base_model.model.text_model.q_proj.lora_A.weight": A,
      "base_model.model.text_model.q_proj.lora_B.weight": B,
    };
    const models = { unet: network, text_encoder: clip };
    const { loras, warnings } = readLora({ tensors, adapterConfig: { lora_alpha: 3 } }, models);
    expect(loras.text_encoder.alphas).toEqual({ "text_model.q_proj": 3 });
    expect(loras.unet.params).toEqual({});
    expect(warnings).toEqual([]);
  });

  it("says what it assumes of alphas that stand nowhere, and which entries have no effect", () => {
    const read = (tensors: TensorMap<HostTensor>, others: object = {}) =>
      readLora({ tensors, ...others }, { unet: network }).warnings;
    const assumed = { code: "ALPHA_ASSUMED", message: expect.stringContaining("taken for their rank (1 in a.to_q)") };
    expect(read(prefixed("base_model.model."))).toEqual([assumed]);
    expect(read(prefixed("base_model.model."), { adapterConfig: {} })).toEqual([]);
    const metadata = { lora_adapter_metadata: JSON.stringify({ "unet.lora_alpha": 1 }) };
    expect(read(prefixed("unet."), { metadata })).toEqual([]);
    const kohya = { "lora_unet_a_to_q.lora_down.weight": A, "lora_unet_a_to_q.lora_up.weight": B };
    expect(read(kohya)).toEqual([]);
    expect(read(kohya, { metadata: { ss_network_alpha: "1" } })).toEqual([]);
    expect(read(kohya, { metadata: { ss_network_alpha: "0.5" } })).toEqual([
      { code: "ALPHA_ASSUMED", message: expect.stringContaining('"ss_network_alpha" 0.5') },
    ]);
    expect(read({ ...kohya, "lora_te2_x.lora_down.weight": A, "lora_te2_x.lora_up.weight": B })).toEqual([
      {
        code: "COMPONENT_ABSENT",
        message: expect.stringContaining(
          "entries for text_encoder_2 (2, as lora_te2_x.lora_down.weight) have no effect",
        ),
      },
    ]);
  });

  it("separates the parts of text encoders and returns those whose model is not given", () => {
    const layer = "text_model.encoder.layers.0.self_attn.out_proj";
    const clip = { [`${layer}.weight`]: { shape: [4, 4] }, "text_model.final_layer_norm.weight": { shape: [4] } };
    const down = HostTensor.filled([1, 4], 1);
    const up = HostTensor.filled([4, 1], 1);
    const expected = { params: { [`${layer}.lora_A.weight`]: down, [`${layer}.lora_B.weight`]: up }, alphas: {} };
    const namings = [
      ["text_encoder.", `${layer}.lora_linear_layer.down`, `${layer}.lora_linear_layer.up`],
      ["text_encoder.", `${layer}.lora_A`, `${layer}.lora_B`],
      [
        "text_encoder.",
        `${layer.replace("out_proj", "to_out_lora")}.down`,
        `${layer.replace("out_proj", "to_out_lora")}.up`,
      ],
      ["lora_te_", `${layer.replaceAll(".", "_")}.lora_down`, `${layer.replaceAll(".", "_")}.lora_up`],
      ["lora_te1_", `${layer.replaceAll(".", "_")}.lora_down`, `${layer.replaceAll(".", "_")}.lora_up`],
    ] as const;
    for (const [prefix, downName, upName] of namings) {
      const parts = { [`${prefix}${downName}.weight`]: down, [`${prefix}${upName}.weight`]: up };
      const second = { "lora_te2_x.lora_down.weight": down };
      const tensors = { ...prefixed("unet."), ...parts, ...second };
      const both = readLora({ tensors }, { unet: network, text_encoder: clip });
      expect(both.loras, prefix).toEqual({ unet: { params: a, alphas: {} }, text_encoder: expected });
      expect(both.others).toEqual(second);
      expect(readLora({ tensors }, { unet: network }).others).toEqual({ ...parts, ...second });
      expect(readLora({ tensors: parts }, { text_encoder: clip }).loras).toEqual({ text_encoder: expected });
    }
    const diffusers = writeLora({ text_encoder: expected }, { text_encoder: clip }, "diffusers");
    expect(Object.keys(diffusers)).toEqual([
      `text_encoder.${layer}.lora_linear_layer.down.weight`,
      `text_encoder.${layer}.lora_linear_layer.up.weight`,
    ]);
    const numbered = writeLora(
      { text_encoder: expected, text_encoder_2: expected },
      { text_encoder: clip, text_encoder_2: clip },
      "kohya",
    );
    expect(Object.keys(numbered).map((name) => name.slice(0, 9))).toEqual([
      ...Array<string>(3).fill("lora_te1_"),
      ...Array<string>(3).fill("lora_te2_"),
    ]);
  });

  it("lists at once every entry that fits nothing", () => {
    const tensors = {
      "unet.a.to_q.lora_A.weight": HostTensor.filled([1, 5], 0),
      "unet.a.to_q.lora_B.weight": B,
      "unet.b.to_out.0.lora_A.weight": HostTensor.filled([1, 3], 0),
      "unet.c.to_q.lora_A.weight": A,
      "unet.a.to_k.lora.up.weight": B,
      "unet.a.to_q.bias": B,
      "lora_unet_a_to_q.lora_up.weight": B,
      "lora_unet_a_to_q.alpha": A,
    };
    const error = errorOf(() => readLora({ tensors }, { unet: network }));
    expect(error.code).toBe("UNEXPECTED_PARAMETER");
    const lines = [
      "(7 of its entries)",
      "unet.c.to_q.lora_A.weight matches no layer of unet",
      "unet.a.to_k.lora.up.weight matches no layer of unet",
      "unet.a.to_q.bias is no part of a LoRA of unet",
      "lora_unet_a_to_q.lora_up.weight repeats a.to_q.lora_B.weight of unet",
      "lora_unet_a_to_q.alpha must be one finite number, has shape [1, 2]",
      "unet: a.to_q has lora_A [1, 5] and lora_B [3, 1], its weight [3, 2]",
      "unet: b.to_out.0 lacks lora_B (up)",
    ];
    for (const line of lines) expect(error.message).toContain(line);
  });

  it("refuses a name with underscores that two layers have", () => {
    const twins = { "a.b_c.weight": { shape: [3, 2] }, "a_b.c.weight": { shape: [3, 2] } };
    const tensors = { "lora_unet_a_b_c.lora_down.weight": A, "lora_unet_a_b_c.lora_up.weight": B };
    const error = errorOf(() => readLora({ tensors }, { unet: twins }));
    expect(error.message).toContain("lora_unet_a_b_c.lora_up.weight may belong to a.b_c or to a_b.c of unet");
  });

  it.each([
    ["DoRA", "lora_unet_a_to_q.dora_scale"],
    ["DoRA", "unet.a.to_q.lora_magnitude_vector"],
    ["LoHa", "lora_unet_a_to_q.hada_w1_a"],
    ["LoKr", "lora_unet_a_to_q.lokr_w1"],
    ["LoCon with a Tucker decomposition", "lora_unet_a_to_q.lora_mid.weight"],
    ["OFT", "lora_unet_a_to_q.oft_blocks"],
    ["LyCORIS norms", "lora_unet_a_to_q.w_norm"],
    ["LoRA with biases", "unet.a.to_q.lora_B.bias"],
    ["full differences", "lora_unet_a_to_q.diff_b"],
  ])("names %s as another method", (method, name) => {
    const error = errorOf(() => readLora({ tensors: { ...prefixed("unet."), [name]: B } }, { unet: network }));
    expect(error.code).toBe("UNSUPPORTED_CONFIG");
    expect(error.message).toContain(`${method}: ${name}`);
  });

  it("refuses a file that has nothing for the given models", () => {
    const tensors = { "text_encoder.x.lora_A.weight": A, "text_encoder.x.lora_B.weight": B };
    expect(errorOf(() => readLora({ tensors }, { unet: network }))).toMatchObject({
      code: "MISSING_PARAMETER",
      message: expect.stringContaining("adapts nothing of unet; it has 2 entries for other components"),
    });
    expect(errorOf(() => readLora({ tensors }, {} as never))).toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  function prefixed(prefix: string): TensorMap<HostTensor> {
    return { [`${prefix}a.to_q.lora_A.weight`]: A, [`${prefix}a.to_q.lora_B.weight`]: B };
  }
});

/** A network's weights with LoRAs merged in by PEFT 0.13.2: see fixtures/README.md. */
describe("adapter_config.json", async () => {
  interface Values {
    readonly shape: Shape;
    readonly data: readonly number[];
  }
  const { base, cases } = (await fixture("peft").json("merged.json")) as {
    readonly base: Readonly<Record<string, Values>>;
    readonly cases: Readonly<
      Record<
        string,
        Readonly<Record<"tensors" | "merged", Readonly<Record<string, Values>>>> & { readonly config: object }
      >
    >;
  };
  const tensorsOf = (all: Readonly<Record<string, Values>>) =>
    mapTensors(all, ({ shape, data }) => HostTensor.from(shape, data));

  it.each(Object.entries(cases))("scales as PEFT does: %s", (_, { config, tensors, merged }) => {
    const params = tensorsOf(base);
    const { loras, warnings } = readLora({ tensors: tensorsOf(tensors), adapterConfig: config }, { unet: params });
    expect(warnings).toEqual([]);
    const result = mergeLora(params, [loras.unet]);
    const changed = Object.keys(result).filter((name) => result[name] !== params[name]);
    expect(changed.sort()).toEqual(Object.keys(merged).sort());
    for (const [name, expected] of Object.entries(tensorsOf(merged))) expectOutput(name, result[name], expected);
  });
});

describe("writeLora", () => {
  it("scales B by alpha / rank where the naming has no alpha", () => {
    const lora = { params: { "a.to_q.lora_A.weight": A, "a.to_q.lora_B.weight": B }, alphas: { "a.to_q": 3 } };
    const written = writeLora({ unet: lora }, { unet: network }, "peft");
    expectOutput("B", written["unet.a.to_q.lora_B.weight"], HostTensor.from([3, 1], [9, 12, 15]));
    expect(written["unet.a.to_q.lora_A.weight"]).toBe(A);
    const kohya = writeLora({ unet: lora }, { unet: network }, "kohya");
    expect(kohya["lora_unet_a_to_q.alpha"]).toEqual(HostTensor.scalar(3));
    expect(readLora({ tensors: kohya }, { unet: network }).loras.unet).toEqual(lora);
  });

  it("refuses a LoRA of another network", () => {
    const lora = { params: { "z.lora_A.weight": A, "z.lora_B.weight": B }, alphas: {} };
    expect(errorOf(() => writeLora({ unet: lora }, { unet: network }, "diffusers"))).toMatchObject({
      code: "UNEXPECTED_PARAMETER",
    });
  });
});
