import { HostTensor, withGradients, type Program, type TensorMap } from "@sdxs/tensor";
import type { RunOnce } from "@sdxs/tensor/testing";

/** A loss's slope along its gradient by the parameter `name`, by central differences, over the gradient's norm: 1 where they agree. */
export async function slopeAlongGradient(
  run: RunOnce,
  program: Program,
  params: TensorMap<HostTensor>,
  inputs: TensorMap<HostTensor>,
  name: string,
): Promise<number> {
  const { [`grad.${name}`]: gradient } = await run(withGradients(program, [name]), params, inputs);
  const norm = Math.hypot(...gradient!.data);
  const lossAt = async (step: number) => {
    const { shape, data } = params[name]!;
    const moved = HostTensor.from(
      shape,
      Array.from(data, (value, i) => value + (step * gradient!.data[i]!) / norm),
    );
    return (await run(program, { ...params, [name]: moved }, inputs))["loss"]!.item();
  };
  const step = 1e-2;
  return ((await lossAt(step)) - (await lossAt(-step))) / (2 * step) / norm;
}
