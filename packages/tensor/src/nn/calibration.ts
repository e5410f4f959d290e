import type { HostTensor } from "../core/host-tensor.js";
import type { Ops, TensorMap } from "../core/ops.js";
import type { Backend, Calibration, CompileSpec, Program, WeightRanges } from "../core/program.js";

/**
 * Runs a program on typical inputs and records the ranges of the inputs and outputs of its convolutions and products with
 * weights, for `CompileSpec.int8`. A few samples suffice for networks with inputs of one noise level, as one-step models;
 * others need
 * samples of all timesteps.
 *
 * @param spec with the weights as `frozen`; shapes may differ from those that are compiled later
 *
 * @example
 * const int8 = await calibrate(backend, program, spec, samples);
 * const compiled = await backend.compile(program, { ...spec, int8 });
 */
export async function calibrate<D, In extends string>(
  backend: Backend<D>,
  program: Program<In>,
  spec: Omit<CompileSpec<In>, "params" | "int8">,
  samples: Iterable<Readonly<Record<In, D | HostTensor>>>,
): Promise<Calibration> {
  const compiled = await backend.compile(observing(program), spec);
  const calibration: Record<string, WeightRanges> = {};
  try {
    for (const sample of samples) {
      for (const [key, tensor] of Object.entries(await compiled.run({}, sample))) {
        const name = key.slice(0, key.lastIndexOf("#"));
        const [inLeast = 0, inGreatest = 0, outLeast = 0, outGreatest = 0] = (await backend.download(tensor)).data;
        backend.dispose(tensor);
        const { input, output } = calibration[name] ?? { input: [0, 0], output: [0, 0] };
        calibration[name] = {
          input: [Math.min(input[0], inLeast), Math.max(input[1], inGreatest)],
          output: [Math.min(output[0], outLeast), Math.max(output[1], outGreatest)],
        };
      }
    }
  } finally {
    await compiled.dispose();
  }
  return calibration;
}

/** The program with the four ends of both ranges as its outputs, "WEIGHT#USE". */
function observing<In extends string>(program: Program<In>): Program<In> {
  return <T>(ops: Ops<T>, params: TensorMap<T>, inputs: Readonly<Record<In, T>>) => {
    const names = new Map(Object.entries(params).map(([name, tensor]) => [tensor, name]));
    const ranges: Record<string, T> = {};
    const ends = (x: T): T[] => [ops.neg(ops.max(ops.neg(x))), ops.max(x)];
    const observed = (weight: T, input: T, output: T): T => {
      const name = names.get(weight);
      if (name !== undefined) {
        const each = [...ends(input), ...ends(output)].map((end) => ops.reshape(end, [1]));
        ranges[`${name}#${Object.keys(ranges).length}`] = ops.concat(each, 0);
      }
      return output;
    };
    const observer: Pick<Ops<T>, "conv2d" | "matmul"> = {
      conv2d: (x, weight, bias, options) => observed(weight, x, ops.conv2d(x, weight, bias, options)),
      matmul: (a, b, options) => observed(b, a, ops.matmul(a, b, options)),
    };
    program(Object.assign(Object.create(ops) as Ops<T>, observer), params, inputs);
    return ranges;
  };
}
