import { HostTensor, MalformedFileError, prefixed, scope, select, type Ops, type TensorMap } from "@sdxs/tensor";
import {
  compareClosest,
  compareExactly,
  compareOutput,
  compareTensors,
  tensorOf,
  uncompared,
  type CaseCheck,
  type Comparison,
} from "@sdxs/tensor/reference-case";
import { parseUNetConfig, unet, unetParameters, type UNetConfig } from "@sdxs/tiny-unet";
import { readLora, writeLora, type LoraNaming } from "./files.js";
import { applyLora, mergeLora, type Lora } from "./lora.js";

/** The four files of a case, and what the names of predictions made with them begin with. */
export const loraFiles: readonly { readonly file: string; readonly naming: LoraNaming; readonly outputs: string }[] = [
  { file: "pytorch_lora_weights", naming: "diffusers", outputs: "" },
  { file: "pytorch_lora_weights_peft", naming: "peft", outputs: "" },
  { file: "kohya_lora", naming: "kohya", outputs: "" },
  { file: "kohya_lora_alpha_varied", naming: "kohya", outputs: "alpha_varied_" },
];

/** The U-Net with the LoRA in `params` under "lora.", weighted by the input "weight". */
export const predict =
  (config: UNetConfig, alphas: Readonly<Record<string, number>>) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, { weight, ...inputs }: TensorMap<T>): TensorMap<T> => {
    const adapter = { params: select(params, "lora."), alphas, weight: weight as T };
    const adapted = applyLora(ops, select(params, "unet."), [adapter]);
    const { sample, timestep, encoder_hidden_states: encoderHiddenStates } = inputs as Record<string, T>;
    return {
      eps: unet(ops, scope(ops, adapted), config, {
        sample: sample as T,
        timestep: timestep as T,
        encoderHiddenStates: encoderHiddenStates as T,
      }).sample,
    };
  };

/**
 * A U-Net and a LoRA of it in four files: config.json, weights.safetensors, io.safetensors with in.*, out.eps_base,
 * out.eps_scaleS and out.eps_alpha_varied_scaleS for some scales S, and out.merged_weight_example: one of the weights with
 * the LoRA merged into it.
 */
export const checkLoraCase: CaseCheck = async (reference, run) => {
  const config = parseUNetConfig(await reference.json("config.json"));
  const io = await reference.tensors("io.safetensors");
  const weights = await reference.tensors("weights.safetensors");
  const models = { unet: unetParameters(config) };
  const inputs = select(io, "in.");
  const comparisons: Comparison[] = [];

  for (const { file, naming, outputs } of loraFiles) {
    const tensors = await reference.tensors(`${file}.safetensors`);
    const { loras, others } = readLora({ tensors }, models);
    const written = writeLora(loras, models, naming);
    comparisons.push(compareExactly("files", file, () => checkSameTensors({ ...written, ...others }, tensors)));

    const params = { ...prefixed(weights, "unet."), ...prefixed(loras.unet.params, "lora.") };
    for (const [name, expected] of Object.entries(io)) {
      const scale = name === "out.eps_base" ? "0" : name.split(`out.eps_${outputs}scale`)[1];
      if (scale === undefined) continue;
      const given = { ...inputs, weight: HostTensor.scalar(Number(scale)) };
      const { eps } = await run(predict(config, loras.unet.alphas), params, given);
      comparisons.push(compareOutput(`${name} (${file})`, eps, expected));

      const merged = mergeLora(weights, [{ ...loras.unet, weight: Number(scale) }]);
      const plain = await run(predict(config, {}), prefixed(merged, "unet."), given);
      comparisons.push(compareOutput(`${name} (${file}, merged)`, plain["eps"], expected));
    }
    const example = io["out.merged_weight_example"];
    if (example !== undefined && outputs === "") {
      comparisons.push(
        compareClosest(`out.merged_weight_example (${file})`, mergedWeights(weights, loras.unet), example),
      );
    }
  }
  return { comparisons, unchecked: uncompared(io, comparisons, /^in\./) };
};

/** The weights that a LoRA adapts, with it. */
function mergedWeights(weights: TensorMap<HostTensor>, lora: Lora<HostTensor>): HostTensor[] {
  return Object.entries(mergeLora(weights, [lora]))
    .filter(([name, weight]) => weight !== weights[name])
    .map(([, weight]) => weight);
}

function checkSameTensors(actual: TensorMap<HostTensor>, expected: TensorMap<HostTensor>): void {
  for (const name of new Set([...Object.keys(actual), ...Object.keys(expected)])) {
    const { error, problem } = compareTensors("files", name, actual[name], tensorOf(expected, name), 0);
    if (error !== 0) throw new MalformedFileError(`written again, ${name} differs: ${problem}`);
  }
}
