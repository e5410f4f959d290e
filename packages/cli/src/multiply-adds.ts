import { parseTextEncoderConfig, textEncoder, textEncoderParameters } from "@sdxs/runtime";
import { countArithmetic, scope } from "@sdxs/tensor";
import { parseUNetConfig, totalCost, unetCosts } from "@sdxs/tiny-unet";
import {
  autoencoderKlParameters,
  autoencoderTinyParameters,
  decodeKl,
  decodeTiny,
  parseAutoencoderKlConfig,
  parseAutoencoderTinyConfig,
} from "@sdxs/tiny-vae";

/** For what multiply-adds are counted. */
export interface PictureScale {
  readonly tokens: number;
  readonly latents?: { readonly height: number; readonly width: number };
}

/**
 * Multiply-adds of one evaluation: of a U-Net, of an autoencoder's decoder, of a text encoder. undefined for other classes and
 * where the picture's size is not known. Throws `UnsupportedConfigError` for configurations that sdxs cannot run.
 */
export function multiplyAdds(
  { className, config: json }: { readonly className: string; readonly config: unknown },
  { tokens, latents }: PictureScale,
): number | undefined {
  switch (className) {
    case "UNet2DConditionModel":
      return latents && totalCost(unetCosts(parseUNetConfig(json), { ...latents, tokens })).multiplyAdds;
    case "AutoencoderKL": {
      if (latents === undefined) return undefined;
      const config = parseAutoencoderKlConfig(json);
      const shape = [1, config.latent_channels, latents.height, latents.width];
      return countArithmetic(
        (ops, params, { z }) => ({ images: decodeKl(ops, scope(ops, params), config, z) }),
        autoencoderKlParameters(config),
        { z: { shape } },
      ).multiplyAdds;
    }
    case "AutoencoderTiny": {
      if (latents === undefined) return undefined;
      const config = parseAutoencoderTinyConfig(json);
      const shape = [1, config.latent_channels, latents.height, latents.width];
      return countArithmetic(
        (ops, params, { z }) => ({ images: decodeTiny(ops, scope(ops, params), config, z) }),
        autoencoderTinyParameters(config),
        { z: { shape } },
      ).multiplyAdds;
    }
    case "CLIPTextModel":
    case "CLIPTextModelWithProjection": {
      const config = parseTextEncoderConfig(json);
      return countArithmetic(
        (ops, params, { ids }) => ({ states: textEncoder(ops, scope(ops, params), config, ids).lastHiddenState }),
        textEncoderParameters(config),
        { ids: { shape: [1, tokens], dtype: "int32" } },
      ).multiplyAdds;
    }
    default:
      return undefined;
  }
}
