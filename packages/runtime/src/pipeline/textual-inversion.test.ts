import { beforeAll, describe, expect, it } from "vitest";
import { HostTensor, scope, type Ops, type TensorMap } from "@sdxs/tensor";
import { tensorOf } from "@sdxs/tensor/reference-case";
import { expectOutput, referenceCase, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import * as ort from "onnxruntime-node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { components } from "./pipeline-case.test-support.js";
import { createPipeline } from "./pipeline.js";
import { parseTextEncoderConfig, textEncoder } from "../clip/text-encoder.js";
import { readTextualInversion, withAllVectors, withTextualInversions } from "./textual-inversion.js";
import { loadTokenizer } from "../clip/tokenizer.js";

/** Computed by diffusers' `load_textual_inversion` and `maybe_convert_prompt`: see fixtures/README.md. */
const reference = referenceCase(new URL("../../fixtures/textual-inversion/", import.meta.url));

const isPrintable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
const bytes = Array.from({ length: 256 }, (_, byte) => byte);
const others = bytes.filter((byte) => !isPrintable(byte));
const characters = bytes.map((byte) => String.fromCodePoint(isPrintable(byte) ? byte : 256 + others.indexOf(byte)));
const tokens = [...characters, ...characters.map((one) => `${one}</w>`), "<|startoftext|>", "<|endoftext|>"];
const tokenizer = loadTokenizer({
  vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
  merges: [],
  tokenizerConfig: { model_max_length: 16 },
});

async function taught() {
  const read = async (file: string, token?: string) =>
    readTextualInversion(await reference.tensors(`${file}.safetensors`), token);
  const config = parseTextEncoderConfig(await reference.json("config.json"));
  const params = await reference.tensors("weights.safetensors");
  const model = { tokenizer, text_encoder: { className: "CLIPTextModel" as const, config, params } };
  return withTextualInversions(model, [await read("one"), await read("three"), await read("emb_params", "style")]);
}

describe.each(testBackends)("textual inversions on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("encode as in diffusers, one vector and several", async () => {
    const model = await taught();
    const { prompts, converted } = (await reference.json("prompts.json")) as Record<string, string[]>;
    const texts = prompts!.map((prompt) => withAllVectors(model.tokenizer, prompt));
    expect(texts).toEqual(converted);
    const ids = model.tokenizer.encodeBatch(texts);
    const io = await reference.tensors("io.safetensors");
    expect(Array.from(ids.data)).toEqual(Array.from(tensorOf(io, "in.input_ids").data));
    const { config, params } = model.text_encoder;
    const program = <T>(ops: Ops<T>, weights: TensorMap<T>, inputs: Readonly<Record<"ids", T>>) => ({
      state: textEncoder(ops, scope(ops, weights), config, inputs.ids).lastHiddenState,
    });
    const { state } = await run(program, params, { ids });
    expectOutput("last_hidden_state", state, tensorOf(io, "out.last_hidden_state"));
  });
});

describe("readTextualInversion", () => {
  const vector = HostTensor.filled([1, 4], 1);

  it("understands diffusers' files, emb_params, and XL's two", () => {
    expect(readTextualInversion({ "<toy>": vector })).toEqual({ token: "<toy>", text_encoder: vector });
    expect(readTextualInversion({ "<toy>": vector }, "sks").token).toBe("sks");
    expect(readTextualInversion({ emb_params: vector }, "sks")).toEqual({ token: "sks", text_encoder: vector });
    const wide = HostTensor.filled([1, 6], 2);
    expect(readTextualInversion({ clip_l: vector, clip_g: wide }, "sks")).toEqual({
      token: "sks",
      text_encoder: vector,
      text_encoder_2: wide,
    });
  });

  it.each([
    [{}, "got none"],
    [{ a: vector, b: vector }, "got a, b"],
    [{ emb_params: vector }, "name no token"],
    [{ clip_g: vector, clip_l: vector }, "name no token"],
  ])("refuses %j", (tensors, message) => {
    expect(() => readTextualInversion(tensors as TensorMap<HostTensor>)).toThrow(message);
  });
});

describe("createPipeline with embeddings", () => {
  const backend = onnxBackend({ ort, threads: 1 });
  const features = components.text_encoder.config.hidden_size;
  const embedding = (vectors: number, value = 0.3) => ({
    token: "sks",
    text_encoder: HostTensor.filled([vectors, features], value),
  });

  it("draws prompts with their tokens, and what a prompt names by them depends on them", async () => {
    const pictures = [];
    for (const embeddings of [[embedding(1)], [embedding(2)], [embedding(1, -0.3)]]) {
      const pipeline = createPipeline({ components, backend, embeddings });
      pictures.push((await pipeline.generate("red sks")).images.data);
      await pipeline.dispose();
    }
    expect(pictures[1]).not.toEqual(pictures[0]);
    expect(pictures[2]).not.toEqual(pictures[0]);
    expect(components.tokenizer.addedTokens.map(({ content }) => content)).not.toContain("sks");
  });

  it.each([
    [{ token: "sks", text_encoder: HostTensor.filled([1, 3], 0) }, "SHAPE_MISMATCH", "must be [vectors, 8]"],
    [{ ...embedding(1), token: "red</w>" }, "INVALID_ARGUMENT", 'has the token "red</w>" already'],
    [{ ...embedding(1), text_encoder_2: HostTensor.filled([1, 8], 0) }, "INVALID_ARGUMENT", "text_encoder_2"],
  ])("refuses those that do not fit", (inversion, code, message) => {
    expect(() => createPipeline({ components, backend, embeddings: [inversion] })).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) }),
    );
  });
});
