import { beforeAll, describe, expect, it } from "vitest";
import { HostTensor, initialize, prefixed, scope, type Ops, type TensorMap } from "@sdxs/tensor";
import { tensorOf } from "@sdxs/tensor/reference-case";
import {
  expectCase,
  expectOutput,
  listShapes,
  readModelListing,
  referenceCase,
  testBackends,
  type RunOnce,
} from "@sdxs/tensor/testing";
import { joinTextEncodings, parseTextEncoderConfig, textEncoder, textEncoderParameters } from "./text-encoder.js";
import { checkTextEncoderCase, encode } from "./text-encoder-case.test-support.js";

describe("published text encoders at full size", () => {
  it.each([["clip_l_text"], ["openclip_h_text_sd21"]])("%s has exactly transformers' parameters", async (name) => {
    const { config, parameters } = await readModelListing(
      new URL(`../../fixtures/full-models/${name}.json.gz`, import.meta.url),
    );
    expect(listShapes(textEncoderParameters(parseTextEncoderConfig(config)))).toEqual(Object.fromEntries(parameters));
  });
});

describe("parseTextEncoderConfig", () => {
  it.each([
    ["hidden_act", "relu"],
    ["model_type", "clip"],
    ["use_attention_mask", true],
    ["num_attention_heads", 7],
  ])("refuses %s: %j and names the field and its value", (field, value) => {
    expect(() => parseTextEncoderConfig({ [field]: value })).toThrow(
      expect.objectContaining({
        code: "UNSUPPORTED_CONFIG",
        message: expect.stringContaining(`"${field}" is ${JSON.stringify(value)}`),
      }),
    );
  });
});

describe.each(testBackends)("textEncoder on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it.each(["clip_quickgelu", "clip_gelu", "clip_gelu_proj"])("encodes as transformers does: %s", async (name) => {
    const reference = referenceCase(new URL(`../../fixtures/${name}/`, import.meta.url));
    expectCase(await checkTextEncoderCase(reference, run));
  });

  const small = { vocab_size: 9, hidden_size: 4, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2 };

  it("pools at the first end token, or at the largest id where the end token is the early configs' 2", async () => {
    const ids = new HostTensor([2, 4], Int32Array.from([8, 3, 5, 5, 1, 5, 8, 0]));
    for (const [end, positions] of [
      [5, [2, 1]],
      [2, [0, 2]],
    ] as const) {
      const config = parseTextEncoderConfig({ ...small, eos_token_id: end });
      const results = await run(encode(config), initialize(textEncoderParameters(config), 1), { ids });
      const last = results["last_hidden_state"]?.data ?? [];
      const rows = positions.flatMap((position, sample) => [
        ...last.slice((sample * 4 + position) * 4, (sample * 4 + position + 1) * 4),
      ]);
      expectOutput("pooled", results["pooled"], HostTensor.from([2, 4], rows));
    }
  });

  it("lets no token see those after it", async () => {
    const config = parseTextEncoderConfig(small);
    const weights = initialize(textEncoderParameters(config), 1);
    const encoded = async (ids: number[]) => {
      const results = await run(encode(config), weights, {
        ids: new HostTensor([1, ids.length], Int32Array.from(ids)),
      });
      return results["last_hidden_state"] as HostTensor;
    };
    const [short, long] = [await encoded([1, 2]), await encoded([1, 2, 3])];
    expectOutput("first two tokens", HostTensor.from([1, 2, 4], long.data.slice(0, 8)), short);
  });

  it("refuses prompts with more tokens than it has positions for", async () => {
    const config = parseTextEncoderConfig({ ...small, max_position_embeddings: 3 });
    const ids = new HostTensor([1, 4], new Int32Array(4));
    await expect(run(encode(config), initialize(textEncoderParameters(config), 1), { ids })).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
      message: expect.stringContaining("1 to 3 tokens, got [1, 4]"),
    });
  });

  /** The small encoder twice, joined. */
  const joined =
    (options: { readonly projection?: boolean } = {}) =>
    <T>(ops: Ops<T>, params: TensorMap<T>, { ids, ids2 }: Readonly<Record<"ids" | "ids2", T>>): TensorMap<T> => {
      const config = parseTextEncoderConfig(small);
      const p = scope(ops, params);
      return {
        ...joinTextEncodings(ops, textEncoder(ops, p, config, ids), textEncoder(ops, p, config, ids2, options)),
      };
    };

  it("joins two encoders as diffusers' StableDiffusionXLPipeline does", async () => {
    const load = async (name: string) => {
      const reference = referenceCase(new URL(`../../fixtures/${name}/`, import.meta.url));
      return {
        config: parseTextEncoderConfig(await reference.json("config.json")),
        weights: await reference.tensors("weights.safetensors"),
        io: await reference.tensors("io.safetensors"),
      };
    };
    const first = await load("clip_quickgelu");
    const second = await load("clip_gelu_proj"); // padded with 0, as XL's
    const encodeBoth = <T>(ops: Ops<T>, params: TensorMap<T>, given: Readonly<Record<"ids" | "ids2", T>>) => {
      const p = scope(ops, params);
      const one = textEncoder(ops, p.at("one"), first.config, given.ids);
      const two = textEncoder(ops, p.at("two"), second.config, given.ids2, { projection: true });
      return { ...joinTextEncodings(ops, one, two) };
    };
    const weights = { ...prefixed(first.weights, "one."), ...prefixed(second.weights, "two.") };
    const results = await run(encodeBoth, weights, {
      ids: tensorOf(first.io, "in.input_ids"),
      ids2: tensorOf(second.io, "in.input_ids"),
    });
    // encode_prompt: hidden_states[-2] of both, side by side, and output 0 of the second.
    const penultimate = [first, second].map(({ io }) => tensorOf(io, "out.penultimate"));
    // Both [3, 77, 32].
    const rows = Array.from({ length: 3 * 77 }, (_, row) =>
      penultimate.flatMap(({ data }) => [...data.slice(row * 32, (row + 1) * 32)]),
    );
    expectOutput("context", results["encoderHiddenStates"], HostTensor.from([3, 77, 64], rows.flat()));
    expectOutput("textEmbeds", results["textEmbeds"], tensorOf(second.io, "out.text_embeds"));
  });

  it("refuses to join encodings of other lengths, or without a projection", async () => {
    const weights = initialize(textEncoderParameters(parseTextEncoderConfig(small), { projection: true }), 1);
    const ids = (batch: number, tokens: number) => new HostTensor([batch, tokens], new Int32Array(batch * tokens));
    await expect(run(joined(), weights, { ids: ids(1, 3), ids2: ids(1, 3) })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("{ projection: true }"),
    });
    for (const [batch, tokens] of [
      [1, 4],
      [2, 3],
    ] as const) {
      await expect(
        run(joined({ projection: true }), weights, { ids: ids(1, 3), ids2: ids(batch, tokens) }),
      ).rejects.toMatchObject({
        code: "SHAPE_MISMATCH",
        message: expect.stringContaining(`got hidden states [1, 3, 4] and [${batch}, ${tokens}, 4]`),
      });
    }
  });
});
