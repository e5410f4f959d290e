import { planBlockRemoval, publishedUNets } from "@sdxs/tiny-unet";
import { describe, expect, it } from "vitest";
import { parseBlockArguments } from "./block-arguments.js";

const parse = (line: string) => parseBlockArguments(line.split(" "));

describe("parseBlockArguments", () => {
  it("counts the teacher alone for the size it was trained for, unless told more", () => {
    expect(parse("--teacher sd15")).toEqual({
      teacher: "sd15",
      removal: undefined,
      size: undefined,
      tokens: 77,
      write: false,
    });
  });

  it("reads a removal that planBlockRemoval takes", () => {
    const line =
      "--teacher sdxl --removed-levels 0 --mid residual-block --layers 2,2,2 --transformers 1,2/2,4/4 " +
      "--up-transformers 1,2/1/1,4/4/10 --only-cross-attention true,false --size 96x64 --tokens 154";
    const { removal, size, tokens } = parse(line);
    expect(removal).toEqual({
      removedLevels: 0,
      midStage: "residual-block",
      layersPerBlock: [2, 2, 2],
      transformerLayers: [1, [2, 2], [4, 4]],
      upTransformerLayers: [1, [2, 1, 1], [4, 4, 10]],
      onlyCrossAttention: [true, false],
    });
    expect(planBlockRemoval(publishedUNets.sdxl, removal!).config.mid_block_type).toBe("UNetMidBlock2D");
    expect({ size, tokens }).toEqual({ size: { height: 96, width: 64 }, tokens: 154 });
  });

  it("changes a preset by what stands besides", () => {
    expect(parse("--teacher sd15 --preset bk-sdm-small --mid keep").removal).toEqual({
      layersPerBlock: 1,
      midStage: "keep",
    });
  });

  it("needs no teacher to write the page", () => {
    expect(parse("--write").write).toBe(true);
  });

  it.each([
    ["--preset sdxs-512", "--teacher NAME is missing"],
    ["--teacher sd15 --preset sdxs", "--preset must be one of sdxs-512, sdxs-512-0.9"],
    ["--teacher sd15 --mid gone", '--mid must be one of keep, residual-block, remove, got "gone"'],
    ["--teacher sd15 --layers 0", '--layers must be a whole number of at least 1, got "0"'],
    ["--teacher sd15 --transformers 1,x", '--transformers must be a whole number of at least 0, got "x"'],
    ["--teacher sd15 --only-cross-attention yes", '--only-cross-attention must be one of true, false, got "yes"'],
    ["--teacher sd15 --size 64", '--size must be HEIGHTxWIDTH of the latents, as 64x64, got "64"'],
    ["--teacher sd15 --blocks 3", "'--blocks'"],
  ])("refuses %s and says what is wrong", (line, message) => {
    expect(() => parse(line)).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(message) }),
    );
  });
});
