import { UnsupportedConfigError } from "@sdxs/tensor";
import { unetEncoderParameters, type UNetConfig } from "@sdxs/tiny-unet";
import { controlNetParameters } from "./controlnet.js";
import { parseControlNetConfig, type ControlNetConfig } from "./controlnet-config.js";

/** What a ControlNet has that its U-Net does not say. */
export type ControlNetFromUNetOptions = Partial<
  Pick<
    ControlNetConfig,
    | "mid_block_type"
    | "conditioning_channels"
    | "controlnet_conditioning_channel_order"
    | "conditioning_embedding_out_channels"
    | "global_pool_conditions"
  >
>;

/** A ControlNet made from a U-Net. */
export interface ControlNetPlan {
  readonly config: ControlNetConfig;
  /** For each parameter that begins as a copy: the U-Net's parameter of the same shape. For `copyParameters`. */
  readonly copies: Readonly<Record<string, string>>;
  /** Parameters that begin by their initialisers: the condition's embedding and the zero convolutions. */
  readonly initialized: readonly string[];
}

/**
 * Plans a ControlNet for a U-Net, as diffusers' `ControlNetModel.from_unet`: a copy of the encoder, and zero convolutions
 * after it, so that it does not change the U-Net until it is trained (ControlNet paper, Section 3.1).
 *
 * For a U-Net without a mid stage the ControlNet gets one residual block there, as SDXS's sketch ControlNet has; it begins
 * by its initialisers. Throws `UnsupportedConfigError` for a U-Net whose encoder no ControlNet has.
 *
 * @param unet The U-Net's configuration.
 * @param options Fields of the ControlNet's configuration. Default: diffusers' defaults and the U-Net's `mid_block_type`.
 *
 * @example
 * const plan = controlNetFromUNet(unetConfig);
 * const weights = { ...initialize(controlNetParameters(plan.config), seed), ...copyParameters(plan, unetWeights) };
 */
export function controlNetFromUNet(unet: UNetConfig, options: ControlNetFromUNetOptions = {}): ControlNetPlan {
  const { layers_per_block: layers, time_embedding_dim: timeFeatures } = unet;
  const defaultTimeFeatures = 4 * (unet.block_out_channels[0] ?? 1);
  expectField("center_input_sample", unet.center_input_sample, false);
  expectField("conv_in_kernel", unet.conv_in_kernel, 3);
  expectField("time_embedding_dim", timeFeatures ?? defaultTimeFeatures, defaultTimeFeatures);
  const config = parseControlNetConfig({
    ...unet,
    layers_per_block: typeof layers === "object" && new Set(layers).size === 1 ? layers[0] : layers,
    mid_block_type: unet.mid_block_type ?? "UNetMidBlock2D",
    ...options,
  });

  const available = unetEncoderParameters(unet);
  const copies: Record<string, string> = {};
  const initialized: string[] = [];
  for (const [name, { shape }] of Object.entries(controlNetParameters(config))) {
    if (available[name]?.shape.join() === shape.join()) copies[name] = name;
    else initialized.push(name);
  }
  return { config, copies, initialized };
}

function expectField<V>(field: keyof UNetConfig, value: V, supported: V): void {
  if (value === supported) return;
  throw new UnsupportedConfigError(
    `controlNetFromUNet: the U-Net's "${field}" is ${JSON.stringify(value)}; a ControlNet's is always ` +
      `${JSON.stringify(supported)}. Use a U-Net of that configuration.`,
  );
}
