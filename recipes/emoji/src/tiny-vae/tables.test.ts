import { describe, expect, it } from "vitest";
import { decoderTable, encoderTable } from "./tables.js";

const large = { name: "large", parameters: 417_879, multiplyAdds: 298_684_416, msPerImage: 6.789 };
const tiny = { name: "tiny", parameters: 24_027, multiplyAdds: 29_868_441.6, msPerImage: 1.234 };
const good = { psnr: 25.2155, ssim: 0.80742, perceptualDistance: 0.1234 };
const fair = { psnr: 24.5, ssim: 0.79, perceptualDistance: 0.25 };

describe("decoderTable", () => {
  it("relates costs to the first decoder's, and has no distance of that one to itself", () => {
    const [, rule, ...rows] = decoderTable([
      { ...large, toOriginals: good, frechet: 1.254 },
      { ...tiny, toOriginals: fair, toLarge: { psnr: 31.25, ssim: 0.9 }, frechet: 12.5 },
    ]).split("\n");
    expect(rule).toBe("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    expect(rows).toEqual([
      "| large | 417,879 | 298.7 | 100.0% | 6.79 | 25.22 | 0.807 | 0.123 | - | 1.25 |",
      "| tiny | 24,027 | 29.9 | 10.0% | 1.23 | 24.50 | 0.790 | 0.250 | 31.25 | 12.50 |",
      "",
    ]);
  });
});

describe("encoderTable", () => {
  it("shows the latents' error beside the quality of what is decoded from them", () => {
    const [, , ...rows] = encoderTable([
      { ...large, latentError: 0, toOriginals: good },
      { ...tiny, latentError: 0.01234, toOriginals: fair },
    ]).split("\n");
    expect(rows).toEqual([
      "| large | 417,879 | 298.7 | 100.0% | 6.79 | 0.0000 | 25.22 | 0.807 | 0.123 |",
      "| tiny | 24,027 | 29.9 | 10.0% | 1.23 | 0.0123 | 24.50 | 0.790 | 0.250 |",
      "",
    ]);
  });
});
