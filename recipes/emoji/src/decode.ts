import type { Backend, HostParams, HostTensor } from "@sdxs/tensor";
import { mapBatches } from "../../rows.js";
import { tinyDecoderConfig } from "./models.js";
import { imageDecoder } from "../../diffusion-model.js";
import { tinyImageDecoder } from "./networks.js";
import type { Teacher } from "./teacher.js";

/** The large decoder's images [latents, 3, 64, 64] of the diffusion model's latents, `batch` at a time. */
export async function decodeLarge<D>(
  backend: Backend<D>,
  { config, params }: Teacher["autoencoder"],
  latents: HostTensor,
  batch = 16,
): Promise<HostTensor> {
  return (await mapBatches(backend, imageDecoder(config), params, { latents }, batch)).images;
}

/** The student's decoder's. */
export async function decodeTiny<D>(
  backend: Backend<D>,
  params: HostParams,
  latents: HostTensor,
  batch = 16,
): Promise<HostTensor> {
  return (await mapBatches(backend, tinyImageDecoder(tinyDecoderConfig), params, { latents }, batch)).images;
}
