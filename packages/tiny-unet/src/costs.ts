import { countArithmetic, scope, sizeOf } from "@sdxs/tensor";
import type { BlockRemovalPlan } from "./block-removal.js";
import { unet, unetInputSpecs, unetInputs, unetParameters } from "./unet.js";
import type { UNetConfig } from "./unet-config.js";

/** What one block of a U-Net costs. */
export interface BlockCost {
  /** Its diffusers name: a residual block, a transformer or a resampler as down_blocks.0.resnets.1, or else as conv_in. */
  readonly block: string;
  readonly parameters: number;
  /** Of its convolutions and matrix products, for one image and one evaluation. */
  readonly multiplyAdds: number;
}

/** For what the costs of a U-Net are counted. */
export interface UNetSize {
  /** Of the latents: an eighth of the image's. */
  readonly height: number;
  readonly width: number;
  /** Of the text. Default 77, CLIP's. */
  readonly tokens?: number;
}

/**
 * Parameters and multiply-adds of each block, in the order of their use, from the traced network; nothing is computed.
 * One multiply-add is two floating-point operations. Attention's products of queries, keys and values are counted,
 * which many published figures leave out.
 *
 * @example
 * const costs = unetCosts(publishedUNets["sdxs-512"], { height: 64, width: 64 });
 * const { parameters, multiplyAdds } = totalCost(costs); // 318,695,364 and 184.9e9
 */
export function unetCosts(config: UNetConfig, { height, width, tokens = 77 }: UNetSize): BlockCost[] {
  const specs = unetParameters(config);
  const { multiplyAddsOf } = countArithmetic(
    (ops, params, inputs) => ({ sample: unet(ops, scope(ops, params), config, unetInputs(config, inputs)).sample }),
    specs,
    {
      ...unetInputSpecs(config),
      sample: { shape: [1, config.in_channels, height, width] },
      encoderHiddenStates: { shape: [1, tokens, config.cross_attention_dim] },
    },
  );
  return summed(
    Object.entries(specs).map(([name, { shape }]) => ({
      block: blockOf(name),
      parameters: sizeOf(shape),
      multiplyAdds: multiplyAddsOf[name] ?? 0,
    })),
  );
}

/**
 * What `unetCosts` gives for a plan's student, under the names of the teacher's blocks that the student's are copies of:
 * beside the teacher's own costs, what is left of each block. A block without a copied parameter keeps its name.
 *
 * @example
 * const size = { height: 64, width: 64 };
 * const plan = planBlockRemoval(publishedUNets["sd21-base"], "sdxs-512");
 * console.log(costTable(unetCosts(publishedUNets["sd21-base"], size), studentCosts(plan, size)));
 */
export function studentCosts(plan: Pick<BlockRemovalPlan, "config" | "copies">, size: UNetSize): BlockCost[] {
  const sources = new Map(Object.entries(plan.copies).map(([name, source]) => [blockOf(name), blockOf(source)]));
  return summed(
    unetCosts(plan.config, size).map((cost) => ({ ...cost, block: sources.get(cost.block) ?? cost.block })),
  );
}

/** The sums over all blocks. */
export function totalCost(costs: readonly BlockCost[]): Omit<BlockCost, "block"> {
  const [total = { parameters: 0, multiplyAdds: 0 }] = summed(costs.map((cost) => ({ ...cost, block: "total" })));
  return { parameters: total.parameters, multiplyAdds: total.multiplyAdds };
}

/**
 * A Markdown table of each block's parameters (millions) and multiply-adds (billions), with their sums; with `after`,
 * what is left of each block stands beside.
 */
export function costTable(before: readonly BlockCost[], after?: readonly BlockCost[]): string {
  const rows = (costs: readonly BlockCost[]): Map<string, BlockCost> =>
    new Map([...costs, { block: "total", ...totalCost(costs) }].map((cost) => [cost.block, cost]));
  const columns = after === undefined ? [rows(before)] : [rows(before), rows(after)];
  const added = (after ?? []).map(({ block }) => block).filter((block) => !columns[0]?.has(block));
  const blocks = [...before.map(({ block }) => block), ...added, "total"];

  const cells = (block: string, field: "parameters" | "multiplyAdds", unit: number): string[] =>
    columns.map((column) => {
      const cost = column.get(block);
      return cost === undefined ? "-" : (cost[field] / unit).toFixed(2);
    });
  const left = columns.length > 1 ? ["left"] : [];
  return markdownTable(
    ["block", "M parameters", ...left, "G multiply-adds", ...left],
    blocks.map((block) => [block, ...cells(block, "parameters", 1e6), ...cells(block, "multiplyAdds", 1e9)]),
  );
}

/** Names to the left, numbers to the right. */
function markdownTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((_, column) => Math.max(...[header, ...rows].map((cells) => cells[column]?.length ?? 0)));
  const rule = widths.map((width, column) => (column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`));
  return [header, rule, ...rows]
    .map((cells) => cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))))
    .map((cells) => `| ${cells.join(" | ")} |`)
    .join("\n");
}

/** Costs of equal block as one, in the order of their first. */
function summed(costs: readonly BlockCost[]): BlockCost[] {
  const sums = new Map<string, BlockCost>();
  for (const { block, parameters, multiplyAdds } of costs) {
    const sum = sums.get(block);
    sums.set(block, {
      block,
      parameters: parameters + (sum?.parameters ?? 0),
      multiplyAdds: multiplyAdds + (sum?.multiplyAdds ?? 0),
    });
  }
  return [...sums.values()];
}

/** up_blocks.1.attentions.0 of up_blocks.1.attentions.0.proj_in.weight, conv_in of conv_in.weight. */
function blockOf(parameter: string): string {
  const inner = /^(?:(?:down_blocks|up_blocks)\.\d+|mid_block)\.[a-z]+\.\d+/.exec(parameter);
  return inner?.[0] ?? parameter.replace(/\..*/, "");
}
