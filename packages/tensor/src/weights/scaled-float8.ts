import { SdxsError } from "../core/errors.js";
import { sizeOf } from "../core/host-tensor.js";
import type { SafetensorsFile } from "./model-files.js";

/** The scale of LAYER.weight: ComfyUI's name for it, and that of other writers. */
const SCALE = /^(.*\.)?(scale_weight|weight_scale)$/;
/** The marker of such files, and scales of activations, which say nothing of weights that are widened. */
const WITHOUT_VALUE = /^(.*\.)?(scaled_fp8|scale_input|input_scale)$/;
/** How a layer is stored, as JSON, in ComfyUI's later layout: many formats beside this one. */
const LATER_LAYOUT = /^(.*\.)?comfy_quant$/;
const FLOAT8 = ["F8_E4M3", "F8_E5M2"];

/**
 * The weights of a file whose 8-bit layers have scales beside them, as ComfyUI stores them ("scaled_fp8"): the weight
 * LAYER.weight times LAYER.scale_weight, one number or one for each row. Other files are returned unchanged.
 *
 * @throws SdxsError with code UNSUPPORTED_OPERATION, naming the tensor: scales of anything but an 8-bit float weight, scales of
 * blocks, and ComfyUI's later layout. The file is then still open.
 */
export function withFloat8Scales(file: SafetensorsFile): SafetensorsFile {
  const later = file.names.find((name) => LATER_LAYOUT.test(name));
  if (later !== undefined) throw unsupported(`"${later}" says that the layer is quantised`);
  const scales = new Map<string, string>();
  for (const name of file.names) {
    const layer = SCALE.exec(name);
    if (layer === null) continue;
    const weight = `${layer[1] ?? ""}weight`;
    if (!file.names.includes(weight) || !FLOAT8.includes(file.info(weight).dtype)) {
      throw unsupported(`"${name}" scales "${weight}", which is no tensor of ${FLOAT8.join(" or ")} here`);
    }
    const [size, rows = 1] = [sizeOf(file.info(name).shape), ...file.info(weight).shape];
    if (size !== 1 && size !== rows) {
      throw unsupported(`"${name}" holds ${size} scales of blocks; one is read, or one for each of the ${rows} rows`);
    }
    scales.set(weight, name);
  }
  const names = file.names.filter((name) => !SCALE.test(name) && !WITHOUT_VALUE.test(name));
  if (names.length === file.names.length) return file;
  return {
    ...file,
    names,
    async read(name) {
      const tensor = await file.read(name);
      const scale = scales.get(name);
      if (scale === undefined) return tensor;
      const { data: factors } = await file.read(scale);
      const [rows = 1] = tensor.shape;
      const rowLength = factors.length === 1 ? tensor.data.length : tensor.data.length / rows;
      for (let i = 0; i < tensor.data.length; i++) tensor.data[i]! *= factors[Math.floor(i / rowLength)]!;
      return tensor;
    },
  };
}

function unsupported(what: string): SdxsError {
  return new SdxsError(
    "UNSUPPORTED_OPERATION",
    `safetensors: ${what}. Convert the weights to float16 or bfloat16, or take a file that was stored so.`,
  );
}
