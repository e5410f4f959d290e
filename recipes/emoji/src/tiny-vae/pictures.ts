import type { Backend, HostTensor } from "@sdxs/tensor";
import { mapBatches, rowCount } from "../../../rows.js";
import { imageDecoder, imageEncoder } from "../../../diffusion-model.js";
import type { StageProgress } from "../../../progress-bars.js";
import type { Teacher } from "../teacher.js";

/** Pictures as the large autoencoder sees them: what tiny ones learn from and are compared with. */
export interface ReconstructedPictures {
  /** Drawn, [pictures, 3, 64, 64] in [-1, 1]. */
  readonly originals: HostTensor;
  /** The diffusion model's latents of them, by the large encoder: its posterior's mean, scaled, [pictures, 4, 16, 16]. */
  readonly latents: HostTensor;
  /** The large decoder's images of these latents, [pictures, 3, 64, 64]. */
  readonly decoded: HostTensor;
}

export interface ReconstructionOptions<D> {
  readonly backend: Backend<D>;
  readonly autoencoder: Teacher["autoencoder"];
  readonly signal?: AbortSignal;
  readonly onProgress?: (stage: string, progress: StageProgress) => void;
}

/** Pictures at once. Chosen: large enough for the processor's matrix kernels, small in memory. */
const batch = 16;

/** Encodes and decodes pictures by the large autoencoder; `name` names the progress. */
export async function reconstruct<D>(
  { backend, autoencoder: { config, params }, signal, onProgress }: ReconstructionOptions<D>,
  name: string,
  originals: HostTensor,
): Promise<ReconstructedPictures> {
  const steps = rowCount(originals);
  const reporting = (stage: string) => ({
    ...(signal && { signal }),
    onBatch: (step: number) => onProgress?.(`${name}, ${stage}`, { step, steps, metrics: {} }),
  });
  const encode = imageEncoder(config);
  const { latents } = await mapBatches(backend, encode, params, { images: originals }, batch, reporting("encoded"));
  const decode = imageDecoder(config);
  const { images } = await mapBatches(backend, decode, params, { latents }, batch, reporting("decoded"));
  return { originals, latents, decoded: images };
}
