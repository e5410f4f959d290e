import { HostTensor, ParameterError, specsOf, type Backend, type HostParams, type TensorSpec } from "@sdxs/tensor";
import { promptProgram, promptTokens, textWeights, type PromptInput } from "./pipeline-programs.js";
import { PipelineStage, type PipelineStageOptions } from "./pipeline-stage.js";
import type { TextToImageComponents } from "../checkpoints/components.js";
import { withAllVectors } from "./textual-inversion.js";
import type { EncodedPrompt, PromptTokenizer } from "../clip/tokenizer.js";

/** Batches of prompts whose embeddings are kept, a typing user's newest. Chosen; those of one prompt take 640 kB at most. */
const KEPT_EMBEDDINGS = 16;

/** A prompt that is longer than the text encoders take. */
export interface CutPrompt {
  readonly prompt: string;
  /** Its last words, as the tokenizer decodes them. */
  readonly lost: string;
}

export interface PromptEmbeddings<D> {
  /**
   * `context` [prompts, tokens, features] and, for Stable Diffusion XL, `textEmbeds` [prompts, features]: on the device, where
   * they stay for the next call.
   */
  readonly tensors: Readonly<Record<"context" | "textEmbeds", D>>;
  readonly cut: readonly CutPrompt[];
}

/** The tokenizer and the text encoder, or Stable Diffusion XL's two, with the embeddings of recent prompts. */
export class PromptEncoder<D> {
  /** Of each prompt. */
  readonly tokens: number;
  private readonly tokenizers: readonly PromptTokenizer[];
  private readonly stage: PipelineStage<D, PromptInput, "context" | "textEmbeds">;
  private readonly kept = new Map<string, PromptEmbeddings<D>>(); // the newest last

  constructor(
    private readonly backend: Backend<D>,
    private readonly components: TextToImageComponents,
    options: Pick<PipelineStageOptions, "precision"> = {},
  ) {
    const { text_encoder_2: second, tokenizer, tokenizer_2: otherTokenizer } = components;
    this.stage = new PipelineStage(backend, textWeights(components), promptProgram(components), options);
    this.tokenizers = second && otherTokenizer ? [tokenizer, otherTokenizer] : [tokenizer];
    this.tokens = promptTokens(components);
  }

  /** Of the embeddings of so many prompts. */
  specs(prompts: number): Record<"context" | "textEmbeds", TensorSpec> {
    const { text_encoder: first, text_encoder_2: second } = this.components;
    const features = first.config.hidden_size + (second?.config.hidden_size ?? 0);
    return {
      context: { shape: [prompts, this.tokens, features] },
      ...(second && { textEmbeds: { shape: [prompts, second.config.projection_dim] } }),
    } as Record<"context" | "textEmbeds", TensorSpec>;
  }

  /** @param prompts null: zeros in place of embeddings, for XL alone */
  async embed(prompts: readonly (string | null)[]): Promise<PromptEmbeddings<D>> {
    const key = JSON.stringify(prompts);
    const embeddings = this.kept.get(key) ?? (await this.compute(prompts));
    this.kept.delete(key);
    this.kept.set(key, embeddings);
    for (const [oldest, stale] of this.kept) {
      if (this.kept.size <= KEPT_EMBEDDINGS) break;
      this.kept.delete(oldest);
      this.free(stale);
    }
    return embeddings;
  }

  private async compute(prompts: readonly (string | null)[]): Promise<PromptEmbeddings<D>> {
    const texts = prompts.map((prompt) => prompt ?? "");
    const encoded = this.tokenizers.map((tokenizer) =>
      texts.map((text) => tokenizer.encode(withAllVectors(tokenizer, text), this.tokens)),
    );
    const { text_encoder: first, text_encoder_2: second = first } = this.components;
    for (const [index, rows] of encoded.entries()) {
      checkIds(this.tokenizers[index]!, rows, [first, second][index]!.config.vocab_size);
    }
    const [ids, ids2] = encoded.map((rows) => {
      const all = new Int32Array(rows.length * this.tokens);
      rows.forEach((row, index) => all.set(row.ids, index * this.tokens));
      return new HostTensor([rows.length, this.tokens], all);
    });
    const kept = HostTensor.from(
      [prompts.length],
      prompts.map((prompt) => (prompt === null ? 0 : 1)),
    );
    const inputs = { ids, ...(ids2 && { ids_2: ids2, kept }) } as Readonly<Record<PromptInput, HostTensor>>;
    const tensors = await this.stage.run(specsOf(inputs), inputs);
    const cut = encoded.flatMap((rows) =>
      rows.flatMap(({ truncated, lost }, index) => (truncated ? [{ prompt: texts[index]!, lost }] : [])),
    );
    return { tensors, cut };
  }

  /** Encodes with these weights in place of the text encoders' own from now on. */
  async adapt(changed: HostParams): Promise<void> {
    this.forget();
    await this.stage.adapt(changed);
  }

  async dispose(): Promise<void> {
    this.forget();
    await this.stage.dispose();
  }

  private forget(): void {
    for (const embeddings of this.kept.values()) this.free(embeddings);
    this.kept.clear();
  }

  private free({ tensors }: PromptEmbeddings<D>): void {
    for (const tensor of Object.values(tensors)) this.backend.dispose(tensor);
  }
}

/** Tokens that were added to a tokenizer need rows in the text encoder's table. Throws `ParameterError`. */
function checkIds({ addedTokens }: PromptTokenizer, prompts: readonly EncodedPrompt[], rows: number): void {
  for (const id of prompts.flatMap(({ ids }) => [...ids])) {
    if (id < rows) continue;
    const token = addedTokens.find((added) => added.id === id)?.content;
    throw new ParameterError(
      "SHAPE_MISMATCH",
      `generate: the token ${token === undefined ? "" : `${JSON.stringify(token)} `}has the id ${id}, but the text encoder's ` +
        `table ends at ${rows - 1}. Use the text encoder that was trained with this tokenizer, or load the token's embedding.`,
    );
  }
}
