import { HostTensor, random, type Backend, type Program, type Random, type Shape } from "@sdxs/tensor";
import { mapBatches } from "../../../rows.js";
import { gaussianBlur } from "./caption-model.js";
import { evaluatePictures, loadEvaluationSet, referenceFeatures, type Evaluation } from "./evaluate.js";

/**
 * The figures of pictures of known quality, to read a model's by: the artists' own, placed otherwise than the reference
 * (the best that a model can reach), blurred, with another picture's prompt, and noise.
 *
 * @param cacheFile as `referenceFeatures`
 */
export async function evaluationLimits<D>(
  backend: Backend<D>,
  cacheFile: string,
): Promise<{ readonly label: string; readonly evaluation: Evaluation }[]> {
  const reference = await referenceFeatures(backend, cacheFile);
  const { prompts, pictures } = await loadEvaluationSet();
  const real = pictures(1);
  const { blurred } = await mapBatches(backend, blur, {}, { images: real }, 32);
  const noise = noisePictures(random("noise pictures"), real.shape);
  const others = [...prompts.slice(1), ...prompts.slice(0, 1)];
  const evaluate = async (label: string, images: typeof real, asked = prompts) => ({
    label,
    evaluation: await evaluatePictures(backend, images, reference, asked),
  });
  return [
    await evaluate("the artists', placed otherwise", real),
    await evaluate("these, blurred by 1.5 pixels", blurred),
    await evaluate("the artists', for the next prompt", real, others),
    await evaluate("noise", noise),
  ];
}

const blur: Program<"images", "blurred"> = (ops, _params, { images }) => ({ blurred: gaussianBlur(ops, images) });

/** Pictures whose values are independent and uniform in [-1, 1). */
export function noisePictures(stream: Random, shape: Shape): HostTensor {
  return HostTensor.from(
    shape,
    stream.uniform(shape).data.map((value) => 2 * value - 1),
  );
}
