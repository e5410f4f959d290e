import {
  mapTensors,
  specsOf,
  type Backend,
  type CompiledProgram,
  type HostParams,
  type HostTensor,
  type Program,
  type TensorSpec,
} from "@sdxs/tensor";

/** Networks up to this size become constants of their programs, which is faster: chosen. Larger ones are uploaded once. */
const CONSTANT_WEIGHTS_BYTES = 2 ** 26;

/** One network of a pipeline: its weights, and its program compiled once for each shape. */
export interface PipelineStage<D, In extends string, Out extends string> {
  run(
    specs: Readonly<Record<In, TensorSpec>>,
    inputs: Readonly<Record<In, D | HostTensor>>,
  ): Promise<Readonly<Record<Out, D>>>;
  dispose(): Promise<void>;
}

export function pipelineStage<D, In extends string, Out extends string>(
  backend: Backend<D>,
  weights: HostParams,
  program: Program<In, Out>,
): PipelineStage<D, In, Out> {
  const bytes = Object.values(weights).reduce((sum, { data }) => sum + data.byteLength, 0);
  const uploaded = bytes > CONSTANT_WEIGHTS_BYTES ? mapTensors(weights, (tensor) => backend.upload(tensor)) : undefined;
  const compiled = new Map<string, CompiledProgram<D, In, Out>>();
  return {
    async run(specs, inputs) {
      const key = JSON.stringify(specs);
      let ready = compiled.get(key);
      if (ready === undefined) {
        const given = uploaded === undefined ? { frozen: weights } : { params: specsOf(weights) };
        ready = await backend.compile(program, { ...given, inputs: specs });
        compiled.set(key, ready);
      }
      return ready.run(uploaded ?? {}, inputs);
    },
    async dispose() {
      for (const program of compiled.values()) await program.dispose();
      for (const tensor of Object.values(uploaded ?? {})) backend.dispose(tensor);
    },
  };
}
