import {
  HostTensor,
  InvalidArgumentError,
  MalformedFileError,
  ParameterError,
  ShapeError,
  type TensorMap,
} from "@sdxs/tensor";
import type { Model } from "../checkpoints/open-model.js";
import type { TextToImageComponents } from "../checkpoints/components.js";
import type { PromptTokenizer } from "../clip/tokenizer.js";

/**
 * What a token was taught to mean (textual inversion, https://arxiv.org/abs/2208.01618): one embedding, or several that stand
 * one after the other wherever the token stands in a prompt. [vectors, hidden_size of the text encoder]
 */
export interface TextualInversion {
  /** As prompts have it, in this very case: "sks", "<cat-toy>". */
  readonly token: string;
  readonly text_encoder?: HostTensor;
  /** For Stable Diffusion XL's second text encoder. */
  readonly text_encoder_2?: HostTensor;
}

/** Names of tensors that name no token, and whose they are. */
const unnamed: Readonly<Record<string, "text_encoder" | "text_encoder_2">> = {
  emb_params: "text_encoder",
  clip_l: "text_encoder",
  clip_g: "text_encoder_2",
};

/**
 * Understands the tensors of a textual inversion's safetensors file: one under the token's name, as diffusers saves it;
 * "emb_params", as other programs do; or XL's "clip_l" and "clip_g".
 *
 * @param token in place of the name that the file gives; needed where it gives none.
 * @throws MalformedFileError for other tensors, InvalidArgumentError where no token is named.
 *
 * @example
 * const { tensors } = await readSafetensorsFile("learned_embeds.safetensors"); // of @sdxs/tensor/node
 * const pipeline = createPipeline({ components, backend, embeddings: [readTextualInversion(tensors)] });
 * await pipeline.generate("a photo of <cat-toy>");
 */
export function readTextualInversion(tensors: TensorMap<HostTensor>, token?: string): TextualInversion {
  const names = Object.keys(tensors);
  const [first] = names;
  const hasTokenName = names.length === 1 && !Object.hasOwn(unnamed, first!);
  if (first === undefined || (!hasTokenName && !names.every((name) => Object.hasOwn(unnamed, name)))) {
    throw new MalformedFileError(
      `readTextualInversion: expected one tensor by the token's name, or ${Object.keys(unnamed).join(", ")}; got ` +
        `${names.slice(0, 5).join(", ") || "none"}. Check that the file is a textual inversion.`,
    );
  }
  const named = token ?? (hasTokenName ? first : undefined);
  if (named === undefined || named === "") {
    throw new InvalidArgumentError(
      `readTextualInversion: the file has ${names.join(" and ")}, which name no token. Give the token that prompts have.`,
    );
  }
  if (hasTokenName) return { token: named, text_encoder: tensors[first]! };
  return { token: named, ...Object.fromEntries(names.map((name) => [unnamed[name]!, tensors[name]!])) };
}

/**
 * Components whose tokenizers have these tokens and whose text encoders have their embeddings; the given ones stay as they
 * are. Several embeddings of a token "sks" are the tokens "sks", "sks_1", "sks_2", ..., as diffusers names them.
 *
 * @throws InvalidArgumentError where a token is taken or a text encoder is lacking, ShapeError where an embedding is of other
 * features than the text encoder.
 */
export function withTextualInversions<C extends PromptComponents>(
  components: C,
  inversions: readonly TextualInversion[],
): C {
  let extended: PromptComponents = components;
  for (const { token, text_encoder: first, text_encoder_2: second } of inversions) {
    if (first !== undefined) {
      const [tokenizer, encoder] = taught(token, first, extended.tokenizer, extended.text_encoder);
      extended = { ...extended, tokenizer, text_encoder: encoder };
    }
    if (second !== undefined) {
      const { tokenizer_2: tokenizer, text_encoder_2: encoder } = extended;
      if (tokenizer === undefined || encoder === undefined) {
        throw new InvalidArgumentError(
          `createPipeline: the embedding of ${JSON.stringify(token)} is also for text_encoder_2, which this pipeline lacks. ` +
            "Use one that was trained for this model.",
        );
      }
      const [tokenizer_2, text_encoder_2] = taught(token, second, tokenizer, encoder);
      extended = { ...extended, tokenizer_2, text_encoder_2 };
    }
  }
  return extended as C;
}

type PromptComponents = Pick<TextToImageComponents, "tokenizer" | "text_encoder" | "tokenizer_2" | "text_encoder_2">;
type TextEncoder = Model<"CLIPTextModel" | "CLIPTextModelWithProjection">;

const tableName = "text_model.embeddings.token_embedding.weight";

function taught(
  token: string,
  embedding: HostTensor,
  tokenizer: PromptTokenizer,
  encoder: TextEncoder,
): [PromptTokenizer, TextEncoder] {
  const { shape } = embedding;
  const features = encoder.config.hidden_size;
  const vectors = shape.length === 1 ? 1 : (shape[0] ?? 0);
  if (shape.length < 1 || shape.length > 2 || shape.at(-1) !== features || vectors < 1) {
    throw new ShapeError(
      `createPipeline: the embedding of ${JSON.stringify(token)} must be [vectors, ${features}], as the text encoder's ` +
        `"hidden_size" is, got [${shape.join(", ")}]. Use one that was trained for this model.`,
    );
  }
  const rows = encoder.config.vocab_size;
  const firstId = tokenizer.vocabularySize;
  if (firstId > rows) {
    throw new ParameterError(
      "SHAPE_MISMATCH",
      `createPipeline: the tokenizer has ${firstId} tokens, but the text encoder's table ends at ${rows - 1}. Use the text ` +
        "encoder that was trained with this tokenizer.",
    );
  }
  const names = Array.from({ length: vectors }, (_, index) => (index === 0 ? token : `${token}_${index}`));
  const newRows = Math.max(rows, firstId + vectors);
  const table = new Float32Array(newRows * features);
  table.set(encoder.params[tableName]!.data);
  table.set(embedding.data, firstId * features);
  const params = { ...encoder.params, [tableName]: new HostTensor([newRows, features], table) };
  const config = { ...encoder.config, vocab_size: newRows };
  return [tokenizer.withTokens(names), { ...encoder, config, params }];
}

/**
 * A prompt in which each token of several embeddings has all of them, as diffusers' `maybe_convert_prompt` writes it: "a sks"
 * becomes "a sks sks_1 sks_2" where the tokenizer has these.
 */
export function withAllVectors(tokenizer: PromptTokenizer, prompt: string): string {
  const added = new Set(tokenizer.addedTokens.map(({ content }) => content));
  let text = prompt;
  for (const token of new Set(tokenizer.tokenize(prompt))) {
    if (!added.has(token)) continue;
    const names = [token];
    while (added.has(`${token}_${names.length}`)) names.push(`${token}_${names.length}`);
    if (names.length > 1) text = text.replaceAll(token, () => names.join(" "));
  }
  return text;
}
