import { markdownTable } from "../markdown-table.js";
import type { PixelQuality } from "../../../pixel-quality.js";
import type { ImageQuality } from "./image-quality.js";

/** What a network costs. */
export interface NetworkCost {
  readonly parameters: number;
  /** Of its convolutions and matrix products, for one image. */
  readonly multiplyAdds: number;
  /** Median, one image at a time. */
  readonly msPerImage: number;
}

/** One decoder on held-out pictures that the large encoder encoded. */
export interface DecoderFigures extends NetworkCost {
  readonly name: string;
  /** Its images compared with the originals. */
  readonly toOriginals: ImageQuality;
  /** And with the large decoder's; undefined for that one. */
  readonly toLarge?: PixelQuality;
  /** Fréchet distance of its images of the whole evaluation set to that set's. */
  readonly frechet: number;
}

/** One encoder on held-out pictures. */
export interface EncoderFigures extends NetworkCost {
  readonly name: string;
  /** Mean squared error of its latents, relative to the variance of the large encoder's. */
  readonly latentError: number;
  /** The large decoder's images of its latents, compared with the originals. */
  readonly toOriginals: ImageQuality;
}

const costHeader = ["parameters", "M multiply-adds", "of the large one's", "ms per image"];
const qualityHeader = ["PSNR, dB", "SSIM", "perceptual distance"];

/** A Markdown table; the first decoder is the large one, which the others are related to. */
export function decoderTable(decoders: readonly DecoderFigures[]): string {
  const rows = decoders.map((figures) => [
    figures.name,
    ...costCells(figures, decoders[0]),
    ...qualityCells(figures.toOriginals),
    figures.toLarge?.psnr.toFixed(2) ?? "-",
    figures.frechet.toFixed(2),
  ]);
  return figuresTable(
    ["decoder", ...costHeader, ...qualityHeader, "PSNR to AutoencoderKL's, dB", "Fréchet distance"],
    rows,
  );
}

/** A Markdown table; the first encoder is the large one, which the others are related to. */
export function encoderTable(encoders: readonly EncoderFigures[]): string {
  const rows = encoders.map((figures) => [
    figures.name,
    ...costCells(figures, encoders[0]),
    figures.latentError.toFixed(4),
    ...qualityCells(figures.toOriginals),
  ]);
  return figuresTable(["encoder", ...costHeader, "error of latents / variance", ...qualityHeader], rows);
}

function costCells({ parameters, multiplyAdds, msPerImage }: NetworkCost, large: NetworkCost | undefined): string[] {
  return [
    parameters.toLocaleString("en-US"),
    (multiplyAdds / 1e6).toFixed(1),
    `${((100 * multiplyAdds) / (large?.multiplyAdds ?? NaN)).toFixed(1)}%`,
    msPerImage.toFixed(2),
  ];
}

function qualityCells({ psnr, ssim, perceptualDistance }: ImageQuality): string[] {
  return [psnr.toFixed(2), ssim.toFixed(3), perceptualDistance.toFixed(3)];
}

/** Numbers to the right of their columns. */
function figuresTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return markdownTable(
    header,
    rows,
    header.map((_, column) => (column === 0 ? "---" : "---:")),
  );
}
