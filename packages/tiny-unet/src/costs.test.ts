import { describe, expect, it } from "vitest";
import {
  costTable,
  planBlockRemoval,
  publishedUNets,
  studentCosts,
  totalCost,
  unetCosts,
  unetStages,
  type PublishedUNet,
  type UNetConfig,
} from "./index.js";

const at512 = { height: 64, width: 64 };

/** Multiply-adds of queries with keys and of their softmax with values, for square latents. */
function attentionProducts(config: UNetConfig, side: number): number {
  const { down, mid, up } = unetStages(config);
  const perBlock = (channels: number, level: number, onlyCross: boolean): number => {
    const pixels = (side / 2 ** level) ** 2;
    return 2 * channels * pixels * ((onlyCross ? 77 : pixels) + 77);
  };
  const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);
  const lowest = down.length - 1;
  return sum([
    ...[...down, ...[...up].reverse()].map(({ transformerLayers, channels, onlyCrossAttention }, index) => {
      return sum(transformerLayers) * perBlock(channels, index % down.length, onlyCrossAttention);
    }),
    mid === undefined ? 0 : mid.transformerLayers * perBlock(mid.channels, lowest, false),
  ]);
}

describe("unetCosts", () => {
  it.each<[PublishedUNet, number]>([
    ["sd15", 339],
    ["bk-sdm-base", 224],
    ["bk-sdm-small", 218],
    ["bk-sdm-tiny", 205],
  ])(
    "gives %s the %d G multiply-adds of BK-SDM's paper, which leaves attention's own products out",
    (name, published) => {
      const { multiplyAdds } = totalCost(unetCosts(publishedUNets[name], at512));
      expect(Math.round((multiplyAdds - attentionProducts(publishedUNets[name], 64)) / 1e9)).toBe(published);
    },
  );

  it("reproduces the sizes of SDXS's paper: 319 M of 0.87 B, and 0.74 B of 2.56 B", () => {
    const parameters = (name: PublishedUNet, side: number) =>
      totalCost(unetCosts(publishedUNets[name], { height: side, width: side })).parameters;
    // Totals as diffusers counts them.
    expect(parameters("sd21-base", 64)).toBe(865_910_724);
    expect(parameters("sdxs-512", 64)).toBe(318_695_364);
    expect(parameters("sdxl", 128)).toBe(2_567_463_684);
    expect(parameters("sdxs-1024", 128)).toBe(745_225_604);
  });

  it("names each residual block, transformer and resampler, and the rest by their layers", () => {
    const costs = unetCosts(publishedUNets["sdxs-512"], at512);
    expect(costs.map(({ block }) => block).slice(0, 5)).toEqual([
      "time_embedding",
      "conv_in",
      "down_blocks.0.resnets.0",
      "down_blocks.0.downsamplers.0",
      "down_blocks.1.resnets.0",
    ]);
    expect(costs[1]).toEqual({
      block: "conv_in",
      parameters: 4 * 320 * 9 + 320,
      multiplyAdds: 64 * 64 * 4 * 320 * 9,
    });
    const transformer = costs.find(({ block }) => block === "down_blocks.1.attentions.0");
    const [pixels, channels, context, tokens] = [32 * 32, 640, 1024, 77];
    const projections = pixels * channels * channels * (2 + 4 + 2) + 2 * tokens * context * channels; // proj, attn1, attn2
    const products = 2 * channels * pixels * (pixels + tokens);
    const feedForward = pixels * channels * channels * (8 + 4);
    expect(transformer?.multiplyAdds).toBe(projections + products + feedForward);
  });

  it("counts for the given size and number of tokens", () => {
    const multiplyAdds = (size: Parameters<typeof unetCosts>[1]) =>
      Object.fromEntries(unetCosts(publishedUNets["sdxs-512"], size).map((cost) => [cost.block, cost.multiplyAdds]));
    const [small, large] = [multiplyAdds(at512), multiplyAdds({ height: 96, width: 64 })];
    expect(large["conv_out"]).toBe(1.5 * small["conv_out"]!);
    expect(large["time_embedding"]).toBe(small["time_embedding"]);
    expect(large["down_blocks.1.attentions.0"]).toBeGreaterThan(1.5 * small["down_blocks.1.attentions.0"]!);
    const more = multiplyAdds({ ...at512, tokens: 154 })["down_blocks.1.attentions.0"]!;
    expect(more - small["down_blocks.1.attentions.0"]!).toBe(77 * 640 * (2 * 1024 + 2 * 32 * 32));
  });
});

describe("studentCosts", () => {
  it("puts the student's blocks under the names of the teacher's that they are copies of", () => {
    const plan = planBlockRemoval(publishedUNets["sd21-base"], "sdxs-512");
    const student = studentCosts(plan, at512);
    expect(totalCost(student)).toEqual(totalCost(unetCosts(plan.config, at512)));
    const blocks = student.map(({ block }) => block);
    expect(blocks).toContain("up_blocks.1.resnets.2");
    expect(blocks).not.toContain("up_blocks.1.resnets.1");
    expect(blocks.filter((block) => block.startsWith("up_blocks.0"))).toEqual([]);
    // What stays of the highest resolution costs what it cost before.
    const before = unetCosts(publishedUNets["sd21-base"], at512);
    expect(before).toContainEqual(student.find(({ block }) => block === "up_blocks.3.resnets.2"));
  });
});

describe("costTable", () => {
  const teacher = [
    { block: "conv_in", parameters: 1_000_000, multiplyAdds: 2.5e9 },
    { block: "mid_block.resnets.0", parameters: 30_000_000, multiplyAdds: 0 },
  ];

  it("is a Markdown table with the sums", () => {
    expect(costTable(teacher)).toBe(`\
| block               | M parameters | G multiply-adds |
| ------------------- | -----------: | --------------: |
| conv_in             |         1.00 |            2.50 |
| mid_block.resnets.0 |        30.00 |            0.00 |
| total               |        31.00 |            2.50 |`);
  });

  it("shows what is left beside, and what is new below", () => {
    const student = [
      { block: "conv_in", parameters: 500_000, multiplyAdds: 1e9 },
      { block: "new", parameters: 10_000, multiplyAdds: 1e9 },
    ];
    expect(costTable(teacher, student)).toBe(`\
| block               | M parameters | left | G multiply-adds | left |
| ------------------- | -----------: | ---: | --------------: | ---: |
| conv_in             |         1.00 | 0.50 |            2.50 | 1.00 |
| mid_block.resnets.0 |        30.00 |    - |            0.00 |    - |
| new                 |            - | 0.01 |               - | 1.00 |
| total               |        31.00 | 0.51 |            2.50 | 2.00 |`);
  });
});
