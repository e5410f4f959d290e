import { prefixed, scope, select, type HostTensor, type Ops, type TensorMap } from "@sdxs/tensor";
import {
  compareGradients,
  compareInsides,
  compareOutput,
  compareParameters,
  expectedGradients,
  tensorOf,
  uncompared,
  type CaseCheck,
  type Comparison,
} from "@sdxs/tensor/reference-case";
import { parseUNetConfig, unet, unetParameters, type ControlResiduals, type UNetConfig } from "@sdxs/tiny-unet";
import { namedInputs as namedUNetInputs } from "../../tiny-unet/src/unet-case.test-support.js";
import { parseControlNetConfig, type ControlNetConfig } from "./controlnet-config.js";
import { controlNet, controlNetParameters, type ControlNetInputs, type ControlNetOptions } from "./controlnet.js";

/** diffusers' names of the inputs to ours. */
export function namedInputs<T>({ controlnet_cond, ...inputs }: TensorMap<T>): ControlNetInputs<T> {
  return { ...namedUNetInputs(inputs), condition: controlnet_cond as T };
}

/** Residuals under the reference's names. */
export function named<T>({ down, mid }: ControlResiduals<T>): Record<string, T> {
  return { ...Object.fromEntries(down.map((residual, index) => [`down.${index}`, residual])), mid };
}

/** The noise that a U-Net predicts under a ControlNet; parameters begin with "unet." and "controlnet.". */
export function controlledNoise<T>(
  ops: Ops<T>,
  configs: { readonly unet: UNetConfig; readonly controlnet: ControlNetConfig },
  params: TensorMap<T>,
  inputs: TensorMap<T>,
  options: ControlNetOptions<T>,
): T {
  const p = scope(ops, params);
  const given = namedInputs(inputs);
  const controlResiduals = controlNet(ops, p.at("controlnet"), configs.controlnet, given, options);
  return unet(ops, p.at("unet"), configs.unet, { ...given, controlResiduals }).sample;
}

/**
 * A `ControlNetModel` and the U-Net that it guides: controlnet_config.json, controlnet.safetensors, unet_config.json,
 * unet.safetensors, io.safetensors with in.* (conditioning_scale among them), out.{down.i, mid, eps, eps_no_control} and
 * feat.*, and grads.safetensors, if there: gradients of sum(eps * R) by the ControlNet's parameters.
 */
export const checkControlNetCase: CaseCheck = async (reference, run) => {
  const controlnet = parseControlNetConfig(await reference.json("controlnet_config.json"));
  const io = await reference.tensors("io.safetensors");
  const weights = await reference.tensors("controlnet.safetensors");
  const { R: _, ...inputs } = select(io, "in.");
  const comparisons: Comparison[] = [compareParameters("controlnet", controlNetParameters(controlnet), weights)];
  const compare = (results: TensorMap<HostTensor>): void => {
    for (const [name, result] of Object.entries(results)) {
      comparisons.push(compareOutput(`out.${name}`, result, tensorOf(io, `out.${name}`)));
    }
  };

  const residuals = <T>(ops: Ops<T>, params: TensorMap<T>, { conditioning_scale, ...given }: TensorMap<T>) => {
    const conditioningScale = conditioning_scale as T;
    return named(controlNet(ops, scope(ops, params), controlnet, namedInputs(given), { conditioningScale }));
  };
  compare(await run(residuals, weights, inputs));
  comparisons.push(...(await compareInsides(run, residuals, weights, inputs, prefixed(select(io, "feat."), "feat."))));

  // A case may be about the residuals alone.
  if ((await reference.bytes("unet.safetensors")) !== undefined) {
    const configs = { unet: parseUNetConfig(await reference.json("unet_config.json")), controlnet };
    const unetWeights = await reference.tensors("unet.safetensors");
    comparisons.push(compareParameters("unet", unetParameters(configs.unet), unetWeights));
    const params = { ...prefixed(unetWeights, "unet."), ...prefixed(weights, "controlnet.") };
    const predict = <T>(ops: Ops<T>, params: TensorMap<T>, given: TensorMap<T>): TensorMap<T> => {
      const conditioningScale = given["conditioning_scale"] as T;
      return {
        eps: controlledNoise(ops, configs, params, given, { conditioningScale }),
        eps_no_control: unet(ops, scope(ops, params).at("unet"), configs.unet, namedInputs(given)).sample,
      };
    };
    compare(await run(predict, params, inputs));

    const expected = await expectedGradients(reference, io);
    if (Object.keys(expected).length > 0) {
      const differentiate = <T>(ops: Ops<T>, params: TensorMap<T>, { R, ...given }: TensorMap<T>): TensorMap<T> => {
        const fixed = prefixed(select(params, "unet."), "unet.");
        const conditioningScale = given["conditioning_scale"] as T;
        return ops.valueAndGrad(
          (trained) => {
            const all = { ...fixed, ...prefixed(trained, "controlnet.") };
            const eps = controlledNoise(ops, configs, all, given, { conditioningScale });
            return { loss: ops.sum(ops.mul(eps, R as T)), aux: {} };
          },
          select(params, "controlnet."),
        ).grads;
      };
      const grads = await run(differentiate, params, select(io, "in."));
      comparisons.push(...(await compareGradients(reference, prefixed(grads, "grad."), expected)));
    }
  }
  return { comparisons, unchecked: uncompared(io, comparisons, /^in\./) };
};
