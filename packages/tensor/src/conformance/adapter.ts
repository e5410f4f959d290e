import type { HostTensor } from "../core/host-tensor.js";
import type { TensorMap } from "../core/ops.js";
import { downloadAll } from "../core/download.js";
import type { Backend, Program } from "../core/program.js";
import { specsOf } from "../core/parameters.js";

/** What the suite needs of an implementation of `Ops` to test it. */
export interface ConformanceAdapter {
  readonly name: string;
  /**
   * Runs a program once and gives its results. What the adapter finds wrong with shapes or types is thrown,
   * when the program is compiled or when it runs.
   */
  evaluate(
    program: Program,
    params: TensorMap<HostTensor>,
    inputs: TensorMap<HostTensor>,
  ): Promise<Readonly<Record<string, HostTensor>>>;
  /** For the cases about parameters in training. Default: not tested. */
  readonly backend?: Backend<unknown>;
  /** Tensors that live on the device now, for the test that nothing leaks. Default: not tested. */
  liveTensors?(): number;
  /** Multiplies every tolerance, for adapters that compute in less than float32. Default 1. */
  readonly toleranceFactor?: number;
}

/**
 * The adapter that tests a backend: each evaluation compiles, runs, downloads and disposes.
 *
 * @example
 * const results = await runConformance(fromBackend(backend));
 */
export function fromBackend<D>(
  backend: Backend<D>,
  options: Pick<ConformanceAdapter, "toleranceFactor"> = {},
): ConformanceAdapter {
  return {
    name: backend.name,
    backend,
    ...options,
    liveTensors: () => backend.memory().tensors,
    async evaluate(program, params, inputs) {
      const compiled = await backend.compile(program, { params: specsOf(params), inputs: specsOf(inputs) });
      try {
        const results = await compiled.run(params, inputs);
        const host = await downloadAll(backend, results);
        // One tensor may stand under several names.
        for (const tensor of new Set(Object.values(results))) backend.dispose(tensor);
        return host;
      } finally {
        await compiled.dispose();
      }
    },
  };
}
