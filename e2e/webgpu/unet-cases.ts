import { readSafetensors, scope, select, withGradients, type HostTensor, type Ops, type TensorMap } from "@sdxs/tensor";
import type { ConformanceCase, Finding } from "@sdxs/tensor/conformance";
import { parseUNetConfig, unet, type UNetConfig } from "@sdxs/tiny-unet";

/** Reads a file of packages/tiny-unet/fixtures. */
export type ReadFixture = (path: string) => Promise<Uint8Array<ArrayBuffer>>;

const folder = "unet_sdxs_mini";

/** A whole U-Net: values and gradients against diffusers 0.27.2 (see the fixtures' README), and training. */
export function unetCases(read: ReadFixture): readonly ConformanceCase[] {
  const tensors = async (file: string) => readSafetensors(await read(`${folder}/${file}`)).tensors;
  const json = async (file: string): Promise<unknown> =>
    JSON.parse(new TextDecoder().decode(await read(`${folder}/${file}`)));
  const load = async () => ({
    config: parseUNetConfig(await json("config.json")),
    weights: await tensors("weights.safetensors"),
    io: await tensors("io.safetensors"),
  });
  return [
    {
      name: "a U-Net predicts what diffusers predicts, and has its gradients by every parameter",
      async check(adapter) {
        const { config, weights, io } = await load();
        const { notes } = (await json("meta.json")) as { readonly notes: { readonly max_abs_grad: number } };
        const results = await adapter.evaluate(
          withGradients(weightedSum(config), Object.keys(weights)),
          weights,
          select(io, "in."),
        );
        const references = await tensors("grads.safetensors");
        // The tolerances that float32 meets, by the fixtures' README.
        const errors = Object.entries(references).map(([name, reference]) =>
          relativeError(`grad.${name}`, results, reference, 1e-4 * maxAbs(reference) + 1e-5 * notes.max_abs_grad),
        );
        const eps = io["out.eps"] as HostTensor;
        return worst([relativeError("eps", results, eps, 1e-4 * Math.max(1, maxAbs(eps))), ...errors]);
      },
    },
    {
      name: "a U-Net learns, and goes on from a saved state as if nothing had happened",
      async check({ backend }) {
        if (backend === undefined) return worst([]);
        const { config, weights, io } = await load();
        const inputs = select(io, "in.");
        const spec = ({ shape, dtype }: HostTensor) => ({ shape, dtype });
        const compiled = await backend.compile(withGradients(weightedSum(config), Object.keys(weights)), {
          params: Object.fromEntries(Object.entries(weights).map(([name, tensor]) => [name, spec(tensor)])),
          inputs: Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, spec(tensor)])),
        });
        const options = { clipNorm: 1, emaDecay: 0.9 };
        let trainable = backend.trainable(weights, options);
        const losses: number[] = [];
        const step = async (): Promise<void> => {
          for (let micro = 0; micro < 2; micro++) {
            const { loss, eps, ...gradients } = await compiled.run(trainable.params, inputs);
            trainable.accumulate(select(gradients, "grad."));
            losses.push((await backend.download(loss)).item());
            for (const tensor of [loss, eps]) backend.dispose(tensor);
          }
          await trainable.step({ learningRate: 1e-3 });
        };
        for (let i = 0; i < 2; i++) await step();
        const saved = await trainable.state();
        await step();
        const expected = await trainable.state();
        trainable.dispose();
        trainable = backend.trainable(weights, options);
        trainable.restore(saved);
        await step();
        const actual = await trainable.state();
        trainable.dispose();
        await compiled.dispose();
        const [first = NaN, , second = NaN, , third = NaN] = losses;
        if (!(second < first && third < second)) return failure(`the loss does not fall: ${losses.join(", ")}`);
        const different = Object.entries(expected).find(
          ([name, { data }]) => !data.every((value, i) => Object.is(value, actual[name]?.data[i])),
        );
        return different ? failure(`after restoring, ${different[0]} is not the same`) : worst([]);
      },
    },
  ];
}

/** sum(eps * R), whose gradients the reference has. */
const weightedSum =
  (config: UNetConfig) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, inputs: TensorMap<T>): Record<"loss" | "eps", T> => {
    const { sample, timestep, encoder_hidden_states: encoderHiddenStates, R } = inputs as Record<string, T>;
    const given = { sample: sample as T, timestep: timestep as T, encoderHiddenStates: encoderHiddenStates as T };
    const eps = unet(ops, scope(ops, params), config, given).sample;
    return { loss: ops.sum(ops.mul(eps, R as T)), eps };
  };

interface NamedError {
  readonly name: string;
  readonly error: number;
}

/** The largest difference, in units of what is allowed. */
function relativeError(
  name: string,
  results: TensorMap<HostTensor>,
  reference: HostTensor,
  allowed: number,
): NamedError {
  const data = results[name]?.data ?? [];
  let error = 0;
  // A NaN, as of an element that is missing, stays.
  for (const [i, value] of reference.data.entries())
    error = Math.max(error, Math.abs((data[i] ?? NaN) - value) / allowed);
  return { name, error };
}

function worst(errors: readonly NamedError[]): Finding {
  const [largest] = [...errors].sort((a, b) => b.error - a.error);
  if (largest === undefined) return { worstError: 0, tolerance: 0, message: "" };
  const { name, error } = largest;
  const message = `${name}: ${error} times the allowed error`;
  return { worstError: Number.isNaN(error) ? Infinity : error, tolerance: 1, message };
}

const failure = (message: string): Finding => ({ worstError: Infinity, tolerance: 0, message });

function maxAbs({ data }: HostTensor): number {
  return Array.from(data).reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
}
