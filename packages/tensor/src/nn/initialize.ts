import { HostTensor, sizeOf } from "../core/host-tensor.js";
import type { ParameterSpec } from "../core/program.js";
import { random, type StreamName } from "../core/random.js";

/**
 * The initial values of a model's parameters.
 *
 * Each parameter's numbers depend on the seed and on its own name and shape only: adding, removing or
 * reordering other parameters does not change them.
 *
 * @param specs The result of `declareParameters`.
 * @returns float32 tensors under the same names.
 *
 * @example
 * const weights = initialize(declareParameters(model, { x: { shape: [1, 8] } }), 42);
 */
export function initialize(
  specs: Readonly<Record<string, ParameterSpec>>,
  seed: StreamName,
): Record<string, HostTensor> {
  const stream = random(seed, "initialize");
  return Object.fromEntries(
    Object.entries(specs).map(([name, { shape, init }]) => {
      if (init.kind === "constant") return [name, HostTensor.filled(shape, init.value)];
      const own = stream.at(name);
      const unit = init.kind === "normal" ? own.normal(shape) : own.uniform(shape);
      const data = new Float32Array(sizeOf(shape));
      for (let i = 0; i < data.length; i++) {
        data[i] = init.kind === "normal" ? unit.data[i]! * init.std : (2 * unit.data[i]! - 1) * init.bound;
      }
      return [name, new HostTensor(shape, data)];
    }),
  );
}
