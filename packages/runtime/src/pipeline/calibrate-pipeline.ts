import type { Backend } from "@sdxs/tensor";
import { PipelineDevice } from "./pipeline-device.js";
import { checkRequest, requestDefaults } from "./pipeline-request.js";
import type { GenerateOptions, PipelineCalibration, PipelineOptions } from "./pipeline-types.js";

/**
 * Draws a picture of each prompt, with seeds that count up, and notes the ranges of what the networks compute, for
 * `PipelineOptions.int8`. Some ten prompts like those to come suffice; sizes, steps and guidance should be theirs, too.
 *
 * @param options as `createPipeline`'s, with a backend of float32
 * @throws those of `Pipeline.generate`
 *
 * @example
 * const int8 = await calibratePipeline({ components, backend }, ["a red apple", "two cats on a sofa"]);
 * const pipeline = createPipeline({ components, backend, int8 });
 */
export async function calibratePipeline<D>(
  { backend, ...given }: Omit<PipelineOptions<D>, "backend" | "int8"> & { readonly backend: Backend<D> },
  prompts: readonly string[],
  options: Omit<GenerateOptions, "seed" | "noise" | "loras"> = {},
): Promise<PipelineCalibration> {
  const defaults = requestDefaults("calibratePipeline", given);
  const device = new PipelineDevice(backend, defaults.components, { recording: true });
  try {
    for (const [seed, prompt] of prompts.entries()) {
      await device.draw(checkRequest(defaults, [prompt], { ...options, seed }));
    }
    return await device.calibrate();
  } finally {
    await device.dispose();
  }
}
