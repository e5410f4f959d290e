import type { PipelineCalibration } from "@sdxs/runtime";
import { SdxsError, type Calibration } from "@sdxs/tensor";
import { readJsonFile } from "@sdxs/tensor/node";

export const int8Usage = `  --int8 FILE           compute in 8 bits, by what sdxs calibrate wrote; twice as fast, and a little less exact`;

/** What `sdxs calibrate` wrote. Throws MALFORMED_FILE for another file. */
export async function readCalibration(path: string): Promise<PipelineCalibration> {
  const json = (await readJsonFile(path)) as Partial<PipelineCalibration> | null;
  if (!isCalibration(json?.unet) || !isCalibration(json.decoder)) {
    throw new SdxsError("MALFORMED_FILE", `${path} holds no ranges of a pipeline. Write it by: sdxs calibrate MODEL`);
  }
  return { unet: json.unet, decoder: json.decoder };
}

function isCalibration(value: unknown): value is Calibration {
  const isRange = (range: unknown): boolean =>
    Array.isArray(range) && range.length === 2 && range.every(Number.isFinite) && range[0] <= range[1];
  return (
    typeof value === "object" &&
    value !== null &&
    Object.values(value as Partial<Calibration>).every((ranges) => isRange(ranges?.input) && isRange(ranges?.output))
  );
}
