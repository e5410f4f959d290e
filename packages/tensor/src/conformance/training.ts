import { adamW, type AdamWState } from "../optim/adamw.js";
import type { AdamWOptions, Trainable } from "../core/trainable.js";
import type { ErrorCode, SdxsError } from "../core/errors.js";
import { withGradients } from "../optim/gradients.js";
import { HostTensor } from "../core/host-tensor.js";
import type { TensorMap } from "../core/ops.js";
import type { Backend, Program } from "../core/program.js";
import { referenceOps } from "../reference/ops.js";
import { fromHost, toHost, type ReferenceTensor } from "../reference/tensor.js";
import { mapTensors, prefixed, select } from "../core/parameters.js";
import { compare, failed, passed, type ConformanceCase, type Finding } from "./case.js";
import { spread } from "./data.js";

type Gradients = TensorMap<HostTensor>;
type OnBackend = (backend: Backend<unknown>) => Promise<Finding>;

/** Float32 has 24 bits (6e-8): the roundings of four steps, relative to the largest element of a tensor. */
const TOLERANCE = 1e-6;
const learningRate = 0.01;

const initial: TensorMap<HostTensor> = {
  matrix: spread([3, 5], "matrix"),
  vector: spread([7], "vector"),
  scalar: HostTensor.scalar(0.5),
};
const gradientsOf = (step: string): Gradients => mapTensors(initial, ({ shape }, name) => spread(shape, name + step));
const four = ["first", "second", "third", "fourth"].map((step) => [gradientsOf(step)]);

/** `Backend.trainable`: updates, accumulation, guards, saving, errors, ownership. For adapters of a backend only. */
export function trainingCases(): ConformanceCase[] {
  return [...updateCases(), ...guardCases(), ...stateCases(), ...refusalCases(), ...ownershipCases()];
}

function training(name: string, check: OnBackend): ConformanceCase {
  return {
    name: `training: ${name}`,
    check: async ({ backend }) => (backend === undefined ? passed : check(backend)),
  };
}

function updateCases(): ConformanceCase[] {
  const steps = (name: string, options: AdamWOptions, batches: readonly (readonly Gradients[])[]): ConformanceCase =>
    training(name, async (backend) => {
      const trainable = backend.trainable(initial, options);
      const norms: number[] = [];
      for (const batch of batches) norms.push((await step(backend, trainable, batch)).gradientNorm);
      const state = await trainable.state();
      trainable.dispose();
      return compareRelative({ ...state, norms: vector(norms) }, reference(options, batches));
    });
  return [
    steps("the default options take AdamW's steps", {}, four),
    steps(
      "decay, clipping and averaging take AdamW's steps",
      { beta1: 0.8, beta2: 0.95, epsilon: 1e-3, weightDecay: 0.1, clipNorm: 1, emaDecay: 0.9 },
      four,
    ),
    steps("averaging warms up", { emaDecay: 0.25, emaWarmup: true }, four),
    steps("gradients within the limit are not clipped", { clipNorm: 100 }, four),
    steps("what was accumulated counts by its mean", { clipNorm: 1 }, [
      [gradientsOf("a"), gradientsOf("b"), gradientsOf("c")],
      [gradientsOf("d")],
      [gradientsOf("e"), gradientsOf("f")],
    ]),
    training("gradients of a compiled program reach the parameters", async (backend) => {
      const target = mapTensors(initial, ({ shape }, name) => spread(shape, `${name} target`));
      const program: Program = (ops, params, inputs) => ({
        loss: Object.keys(params)
          .map((name) => ops.sum(ops.square(ops.sub(params[name]!, inputs[`${name} target`]!))))
          .reduce((sum, term) => ops.add(sum, term)),
      });
      const inputs = Object.fromEntries(Object.entries(target).map(([name, tensor]) => [`${name} target`, tensor]));
      const trainable = backend.trainable(initial, {});
      const compiled = await backend.compile(withGradients(program, Object.keys(initial)), {
        params: mapTensors(initial, ({ shape }) => ({ shape })),
        inputs: mapTensors(inputs, ({ shape }) => ({ shape })),
      });
      // The same by hand: the gradient is 2 (parameter - target), twice as it is accumulated twice.
      const state = newReference({});
      for (let i = 0; i < 3; i++) {
        for (let micro = 0; micro < 2; micro++) {
          const results = await compiled.run(trainable.params, inputs);
          trainable.accumulate(select(results, "grad."));
          backend.dispose(results["loss"]);
        }
        await trainable.step({ learningRate });
        state.step(
          mapTensors(target, (tensor, name) => {
            const difference = referenceOps.sub(state.params()[name]!, fromHost(tensor));
            return referenceOps.mul(difference, 2);
          }),
        );
      }
      const actual = await trainable.state();
      trainable.dispose();
      await compiled.dispose();
      return compareRelative(actual, state.host());
    }),
  ];
}

function guardCases(): ConformanceCase[] {
  return [
    ...[NaN, Infinity, -Infinity].map((bad) =>
      training(`a gradient of ${bad} changes nothing, is reported and is dropped`, async (backend) => {
        const trainable = backend.trainable(initial, { clipNorm: 1, emaDecay: 0.5 });
        await step(backend, trainable, [gradientsOf("good")]);
        const before = await trainable.state();
        const report = await step(backend, trainable, [
          gradientsOf("also good"),
          { ...gradientsOf("bad"), scalar: HostTensor.scalar(bad) },
        ]);
        const unchanged = compare(await trainable.state(), before, 0);
        const again = await codeOf(() => trainable.step({ learningRate }));
        trainable.dispose();
        if (report.finite) return failed("the step was reported as finite");
        return again === "INVALID_ARGUMENT" ? unchanged : failed(`a step without gradients: ${again}`);
      }),
    ),
    training("discarded gradients have no effect", async (backend) => {
      const trainable = backend.trainable(initial, {});
      for (const name of ["discarded", "discarded too"]) trainable.accumulate(upload(backend, gradientsOf(name)));
      trainable.discard();
      const empty = await codeOf(() => trainable.step({ learningRate }));
      await step(backend, trainable, [gradientsOf("kept")]);
      const { norms: _, ...expected } = reference({}, [[gradientsOf("kept")]]);
      const state = await trainable.state();
      trainable.dispose();
      return empty === "INVALID_ARGUMENT"
        ? compareRelative(state, expected)
        : failed(`a step without gradients: ${empty}`);
    }),
  ];
}

function stateCases(): ConformanceCase[] {
  const options = { clipNorm: 2, emaDecay: 0.9 };
  return [
    training("a restored state takes the same next step, bit for bit", async (backend) => {
      const original = backend.trainable(initial, options);
      for (const batch of four) await step(backend, original, batch);
      const resumed = backend.trainable(
        mapTensors(initial, ({ shape }) => HostTensor.filled(shape, 9)),
        options,
      );
      resumed.accumulate(upload(backend, gradientsOf("before restoring")));
      resumed.restore(await original.state());
      for (const trainable of [original, resumed]) await step(backend, trainable, [gradientsOf("next")]);
      const [expected, actual] = [await original.state(), await resumed.state()];
      const counts = [original.steps, resumed.steps];
      original.dispose();
      resumed.dispose();
      return counts.every((steps) => steps === 5)
        ? compare(actual, expected, 0)
        : failed(`steps: ${counts.join()}, not 5`);
    }),
    training("parameters and averages begin as given, and downloads are copies", async (backend) => {
      const trainable = backend.trainable(initial, options);
      const params = await download(backend, trainable.params);
      const averaged = await download(backend, trainable.averaged ?? {});
      const state = await trainable.state();
      await step(backend, trainable, [gradientsOf("step")]);
      const saved = await trainable.state();
      const findings = [
        compare(params, initial, 0),
        compare(averaged, initial, 0),
        compare(select(state, "params."), initial, 0),
        compare(await download(backend, trainable.params), select(saved, "params."), 0),
        compare(await download(backend, trainable.averaged ?? {}), select(saved, "averaged."), 0),
      ];
      trainable.dispose();
      return findings.find(({ worstError }) => worstError > 0) ?? passed;
    }),
    training("a state that lacks something, has something more or another shape restores nothing", async (backend) => {
      const trainable = backend.trainable(initial, options);
      const state = await trainable.state();
      const { "m.vector": _, ...lacking } = state;
      const { steps: __, ...stepless } = state;
      const codes = [
        lacking,
        stepless,
        { ...state, "v.vector": HostTensor.filled([8], 0) },
        { ...state, "averaged.vector": HostTensor.filled([7, 1], 0) },
        { ...state, "params.other": HostTensor.filled([1], 0) },
      ].map((bad) => codeOf(() => trainable.restore({ ...bad, "params.scalar": HostTensor.scalar(7) })));
      const found = (await Promise.all(codes)).join();
      const after = await trainable.state();
      trainable.dispose();
      const wanted = "MISSING_PARAMETER,MISSING_PARAMETER,SHAPE_MISMATCH,SHAPE_MISMATCH,UNEXPECTED_PARAMETER";
      return found === wanted ? compare(after, state, 0) : failed(`expected ${wanted}, got ${found}`);
    }),
  ];
}

function refusalCases(): ConformanceCase[] {
  const refused = (
    name: string,
    code: ErrorCode,
    attempt: (trainable: Trainable<unknown>, backend: Backend<unknown>) => unknown,
  ): ConformanceCase =>
    training(`${name} is refused with ${code}`, async (backend) => {
      const trainable = backend.trainable(initial, {});
      const actual = await codeOf(() => attempt(trainable, backend));
      trainable.dispose();
      return actual === code ? passed : failed(`expected an error with code ${code}, got ${actual}`);
    });
  const accumulating = (gradients: Gradients) => (trainable: Trainable<unknown>, backend: Backend<unknown>) =>
    trainable.accumulate(upload(backend, gradients));
  const { matrix: _, ...rest } = gradientsOf("any");
  return [
    refused("a missing gradient", "MISSING_PARAMETER", accumulating(rest)),
    refused(
      "a gradient of no parameter",
      "UNEXPECTED_PARAMETER",
      accumulating({ ...gradientsOf("any"), other: vector([1]) }),
    ),
    refused(
      "a gradient of another shape",
      "SHAPE_MISMATCH",
      accumulating({ ...rest, matrix: HostTensor.filled([5, 3], 0) }),
    ),
    refused("a step without gradients", "INVALID_ARGUMENT", (trainable) => trainable.step({ learningRate })),
    refused("an int32 parameter", "DTYPE_MISMATCH", (_trainable, backend) =>
      backend.trainable({ i: new HostTensor([2], Int32Array.of(1, 2)) }, {}),
    ),
    refused("an option out of range", "INVALID_ARGUMENT", (_trainable, backend) =>
      backend.trainable(initial, { beta1: 1 }),
    ),
    ...(
      [
        ["accumulating", (trainable, backend) => trainable.accumulate(upload(backend, gradientsOf("any")))],
        ["a step", (trainable) => trainable.step({ learningRate })],
        ["saving", (trainable) => trainable.state()],
        ["restoring", (trainable) => trainable.restore({})],
      ] as readonly [string, (trainable: Trainable<unknown>, backend: Backend<unknown>) => unknown][]
    ).map(([name, attempt]) =>
      refused(`${name} after disposal`, "DISPOSED", (trainable, backend) => {
        trainable.dispose();
        return attempt(trainable, backend);
      }),
    ),
  ];
}

function ownershipCases(): ConformanceCase[] {
  const everything = async (backend: Backend<unknown>): Promise<void> => {
    const trainable = backend.trainable(initial, { emaDecay: 0.9 });
    await step(backend, trainable, [gradientsOf("a"), gradientsOf("b")]);
    trainable.accumulate(upload(backend, gradientsOf("discarded")));
    trainable.discard();
    await step(backend, trainable, [mapTensors(initial, ({ shape }) => HostTensor.filled(shape, NaN))]);
    trainable.restore(await trainable.state());
    await step(backend, trainable, [gradientsOf("c")]);
    trainable.accumulate(upload(backend, gradientsOf("left")));
    trainable.dispose();
    trainable.dispose();
    // What was left is disposed of behind the caller's back.
    const tensor = backend.upload(HostTensor.scalar(0));
    await backend.download(tensor);
    backend.dispose(tensor);
  };
  return [
    training("a disposed trainable leaves no tensors behind", async (backend) => {
      await everything(backend);
      const before = backend.memory().tensors;
      await everything(backend);
      const after = backend.memory().tensors;
      return before === after ? passed : failed(`${before} tensors before, ${after} after`);
    }),
  ];
}

const vector = (values: readonly number[]): HostTensor => HostTensor.from([values.length], values);

const upload = (backend: Backend<unknown>, tensors: TensorMap<HostTensor>): Record<string, unknown> =>
  mapTensors(tensors, (tensor) => backend.upload(tensor));

async function download(backend: Backend<unknown>, tensors: TensorMap<unknown>): Promise<Record<string, HostTensor>> {
  const host: Record<string, HostTensor> = {};
  for (const [name, tensor] of Object.entries(tensors)) host[name] = await backend.download(tensor);
  return host;
}

function step(backend: Backend<unknown>, trainable: Trainable<unknown>, batch: readonly Gradients[]) {
  for (const gradients of batch) trainable.accumulate(upload(backend, gradients));
  return trainable.step({ learningRate });
}

/** The code of the error that a function throws or rejects with. */
async function codeOf(attempt: () => unknown): Promise<string> {
  try {
    await attempt();
    return "no error";
  } catch (error) {
    // Not instanceof: the class may come from another copy of the package.
    return (error as Partial<SdxsError>).code ?? String(error);
  }
}

/** AdamW in double precision. */
function newReference(options: AdamWOptions) {
  const optimizer = adamW(options);
  let params: TensorMap<ReferenceTensor> = mapTensors(initial, fromHost);
  let state: AdamWState<ReferenceTensor> = optimizer.init(referenceOps, params);
  let steps = 0;
  return {
    params: () => params,
    step(gradients: TensorMap<ReferenceTensor>): number {
      steps++;
      const result = optimizer.update(referenceOps, { params, gradients, state, learningRate, step: steps });
      ({ params, state } = result);
      return result.gradientNorm.data[0] ?? NaN;
    },
    host: (): Record<string, HostTensor> => ({
      ...prefixed(mapTensors(params, toHost), "params."),
      ...prefixed(mapTensors(state.m, toHost), "m."),
      ...prefixed(mapTensors(state.v, toHost), "v."),
      ...prefixed(mapTensors(state.averaged ?? {}, toHost), "averaged."),
      steps: new HostTensor([], Int32Array.of(steps)),
    }),
  };
}

/** State and gradient norms after one step per batch, each by the mean of its gradients. */
function reference(options: AdamWOptions, batches: readonly (readonly Gradients[])[]): Record<string, HostTensor> {
  const trained = newReference(options);
  const norms = batches.map((batch) =>
    trained.step(
      mapTensors(initial, (_tensor, name) => {
        const sum = batch.map((gradients) => fromHost(gradients[name]!)).reduce((a, b) => referenceOps.add(a, b));
        return referenceOps.div(sum, batch.length);
      }),
    ),
  );
  return { ...trained.host(), norms: vector(norms) };
}

/** Compares tensors relative to the largest element of each. */
function compareRelative(actual: TensorMap<HostTensor>, expected: TensorMap<HostTensor>): Finding {
  const scaled = (tensors: TensorMap<HostTensor>): Record<string, HostTensor> =>
    mapTensors(tensors, (tensor, name) => {
      const largest = Array.from(expected[name]?.data ?? []).reduce((max, value) => Math.max(max, Math.abs(value)), 0);
      if (tensor.dtype !== "float32" || largest === 0) return tensor;
      return HostTensor.from(
        tensor.shape,
        Array.from(tensor.data, (value) => value / largest),
      );
    });
  return compare(scaled(actual), scaled(expected), TOLERANCE);
}
