/**
 * The names of Stable Diffusion's first implementation (CompVis latent-diffusion, later Stability's generative-models),
 * which kohya's LoRA files for SDXL use: input_blocks, middle_block and output_blocks, numbered through all resolutions.
 */

/** Layers outside of the blocks. */
const ends: Readonly<Record<string, string>> = {
  "time_embedding.linear_1": "time_embed.0",
  "time_embedding.linear_2": "time_embed.2",
  "add_embedding.linear_1": "label_emb.0.0",
  "add_embedding.linear_2": "label_emb.0.2",
  conv_in: "input_blocks.0.0",
  conv_norm_out: "out.0",
  conv_out: "out.2",
};

/** Layers of a residual block; those of a transformer have the same names in both. */
const residualBlock: Readonly<Record<string, string>> = {
  norm1: "in_layers.0",
  conv1: "in_layers.2",
  time_emb_proj: "emb_layers.1",
  norm2: "out_layers.0",
  conv2: "out_layers.3",
  conv_shortcut: "skip_connection",
};

/**
 * The original name of each layer of a U-Net, by its name in diffusers. How many layers a block has is read off the
 * names, so it works for smaller U-Nets too. Layers that have no counterpart are left out.
 *
 * @param layers All linear and convolution layers, as "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q".
 */
export function originalNames(layers: readonly string[]): Map<string, string> {
  const has = (prefix: string): boolean => layers.some((layer) => layer.startsWith(prefix));
  const count = (prefix: string): number => {
    let blocks = 0;
    while (has(`${prefix}.${blocks}.`)) blocks++;
    return blocks;
  };
  /** The number of the first input block of each down stage: block 0 is conv_in, a downsampler has one of its own. */
  const firstInput = [1];
  for (let stage = 0; stage < count("down_blocks"); stage++) {
    const blocks = count(`down_blocks.${stage}.resnets`) + count(`down_blocks.${stage}.downsamplers`);
    firstInput.push(firstInput[stage]! + blocks);
  }
  /** The number of the first output block of each up stage: an upsampler belongs to the last block of its stage. */
  const firstOutput = [0];
  for (let stage = 0; stage < count("up_blocks"); stage++) {
    firstOutput.push(firstOutput[stage]! + count(`up_blocks.${stage}.resnets`));
  }

  const rename = (layer: string): string | undefined => {
    const [, side, stageText, kind, indexText, inner] =
      /^(?:(down|up)_blocks\.(\d+)|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)$/.exec(
        layer,
      ) ?? [];
    if (kind === undefined || inner === undefined) return ends[layer];
    const stage = Number(stageText);
    const index = Number(indexText);
    const own = kind === "resnets" ? residualBlock[inner] : inner;
    if (own === undefined) return undefined;
    if (side === undefined) return `middle_block.${2 * index + (kind === "attentions" ? 1 : 0)}.${own}`;
    if (kind === "downsamplers") return `input_blocks.${firstInput[stage + 1]! - 1}.0.op`;
    if (kind === "upsamplers") {
      const last = count(`up_blocks.${stage}.resnets`) - 1;
      const place = has(`up_blocks.${stage}.attentions.${last}.`) ? 2 : 1;
      return `output_blocks.${firstOutput[stage]! + last}.${place}.conv`;
    }
    const block =
      side === "down" ? `input_blocks.${firstInput[stage]! + index}` : `output_blocks.${firstOutput[stage]! + index}`;
    return `${block}.${kind === "attentions" ? 1 : 0}.${own}`;
  };
  const renamed = layers.map((layer) => [layer, rename(layer)] as const);
  return new Map(renamed.filter((pair): pair is readonly [string, string] => pair[1] !== undefined));
}
