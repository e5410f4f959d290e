import { HostTensor, specsOf, type Backend, type HostParams } from "@sdxs/tensor";
import { promptProgram } from "./pipeline-programs.js";
import { PipelineStage } from "./pipeline-stage.js";
import type { TextToImageComponents } from "./pipeline.js";

/** Batches of prompts whose embeddings are kept, a typing user's newest. Chosen; those of one prompt take 315 kB at most. */
const KEPT_EMBEDDINGS = 16;

export interface PromptEmbeddings<D> {
  /** [prompts, tokens, features] on the device, where they stay for the next call. */
  readonly context: D;
  /** Prompts that lost their last words. */
  readonly cut: readonly string[];
}

/** The tokenizer and the text encoder, with the embeddings of recent prompts. */
export class PromptEncoder<D> {
  /** Of each prompt: the tokenizer's length, or the positions that the text encoder has. */
  readonly tokens: number;
  readonly features: number;
  private readonly stage: PipelineStage<D, "ids", "context">;
  private readonly kept = new Map<string, PromptEmbeddings<D>>(); // the newest last

  constructor(
    private readonly backend: Backend<D>,
    private readonly components: TextToImageComponents,
  ) {
    const { text_encoder: model, tokenizer } = components;
    this.stage = new PipelineStage(backend, model.params, promptProgram(components));
    this.features = model.config.hidden_size;
    this.tokens = Math.min(tokenizer.maximumLength, model.config.max_position_embeddings);
  }

  async embed(prompts: readonly string[]): Promise<PromptEmbeddings<D>> {
    const key = JSON.stringify(prompts);
    const embeddings = this.kept.get(key) ?? (await this.compute(prompts));
    this.kept.delete(key);
    this.kept.set(key, embeddings);
    for (const [oldest, { context }] of this.kept) {
      if (this.kept.size <= KEPT_EMBEDDINGS) break;
      this.kept.delete(oldest);
      this.backend.dispose(context);
    }
    return embeddings;
  }

  private async compute(prompts: readonly string[]): Promise<PromptEmbeddings<D>> {
    const encoded = prompts.map((prompt) => this.components.tokenizer.encode(prompt, this.tokens));
    const rows = new Int32Array(prompts.length * this.tokens);
    encoded.forEach((row, index) => rows.set(row.ids, index * this.tokens));
    const ids = new HostTensor([prompts.length, this.tokens], rows);
    const { context } = await this.stage.run(specsOf({ ids }), { ids });
    return { context, cut: prompts.filter((_, index) => encoded[index]?.truncated) };
  }

  /** Encodes with these weights in place of the text encoder's own from now on. */
  async adapt(changed: HostParams): Promise<void> {
    this.forget();
    await this.stage.adapt(changed);
  }

  async dispose(): Promise<void> {
    this.forget();
    await this.stage.dispose();
  }

  private forget(): void {
    for (const { context } of this.kept.values()) this.backend.dispose(context);
    this.kept.clear();
  }
}
