import { adamW, type AdamW } from "./adamw.js";
import type { AdamWOptions, Trainable } from "../core/trainable.js";
import { HostTensor, type Shape } from "../core/host-tensor.js";
import type { TensorMap } from "../core/ops.js";
import type { Backend, CompiledProgram, Program, TensorSpec } from "../core/program.js";
import { mapTensors, prefixed, select } from "../core/parameters.js";
import { trainableIn, type ParameterLayout, type Update } from "./trainable.js";
import { stateParts, trainableShapes, type StatePart } from "./training-checks.js";

/** A backend that can run the optimiser as a program, and the shapes of its tensors. */
export interface ProgramDevice<D> extends Pick<Backend<D>, "upload" | "download" | "dispose" | "compile"> {
  shapeOf(tensor: D): Shape;
}

/**
 * `Backend.trainable` of any backend: AdamW is a program like any other, so parameters, gradients and moments stay on
 * the device. Each step makes new tensors and disposes of the old ones.
 *
 * @throws SdxsError with code DTYPE_MISMATCH where a parameter is not float32; InvalidArgumentError where an option is out of range.
 *
 * @example
 * trainable: (initial, optimizer) => programTrainable({ upload, download, dispose, compile, shapeOf }, initial, optimizer),
 */
export function programTrainable<D>(
  device: ProgramDevice<D>,
  initial: TensorMap<HostTensor>,
  options: AdamWOptions,
): Trainable<D> {
  return trainableIn(new ProgramLayout(device, initial, adamW(options)));
}

type Tensors<D> = Record<string, D>;

/** The backend's tensors, replaced by each update, which is a program. */
class ProgramLayout<D> implements ParameterLayout<D> {
  readonly shapes: ReadonlyMap<string, Shape>;
  readonly parts: readonly StatePart[];
  readonly params: Tensors<D>;
  readonly averaged: Tensors<D> | undefined;
  private readonly m: Tensors<D>;
  private readonly v: Tensors<D>;
  private readonly specs: Readonly<Record<string, TensorSpec>>;
  /** Of the accumulated gradients. Sums are computed one after the other; the caller does not wait for them. */
  private sum: Promise<TensorMap<D>> | undefined;
  private disposed = false;
  private addition: Promise<CompiledProgram<D>> | undefined;
  private updating: Promise<CompiledProgram<D>> | undefined;

  constructor(
    private readonly device: ProgramDevice<D>,
    initial: TensorMap<HostTensor>,
    private readonly optimizer: AdamW,
  ) {
    this.shapes = trainableShapes(initial);
    this.specs = Object.fromEntries([...this.shapes].map(([name, shape]) => [name, { shape }]));
    const upload = (tensor: HostTensor): D => device.upload(tensor);
    const zeros = ({ shape }: HostTensor): D => device.upload(HostTensor.filled(shape, 0));
    this.params = mapTensors(initial, upload);
    this.m = mapTensors(initial, zeros);
    this.v = mapTensors(initial, zeros);
    const averages = optimizer.options.emaDecay !== undefined;
    this.averaged = averages ? mapTensors(initial, upload) : undefined;
    this.parts = stateParts(averages);
  }

  shapeOf(gradient: D): Shape {
    return this.device.shapeOf(gradient);
  }

  accumulate(gradients: TensorMap<D>): void {
    this.sum = this.sum === undefined ? Promise.resolve(gradients) : this.add(this.sum, gradients);
    // The step that needs the sum throws its error.
    this.sum.catch(() => undefined);
  }

  discard(): void {
    void this.takeSum()?.then(
      (gradients) => this.release(gradients),
      () => undefined,
    );
  }

  async update({ learningRate, count, step }: Update): Promise<number> {
    const gradients = await this.takeSum()!;
    try {
      const corrections = this.optimizer.biasCorrections(step);
      const update = await (this.updating ??= this.compileUpdate());
      const { gradientNorm, ...next } = (await update.run(
        { ...this.stateTensors(), ...prefixed(gradients, "gradient.") },
        mapTensors({ learningRate, count, ...corrections }, (value) => HostTensor.scalar(value)),
      )) as { readonly gradientNorm: D };
      const norm = (await this.device.download(gradientNorm)).item();
      this.device.dispose(gradientNorm);
      if (Number.isFinite(norm) && !this.disposed) this.adopt(next);
      else this.release(next);
      return norm;
    } finally {
      this.release(gradients);
    }
  }

  async read(): Promise<TensorMap<HostTensor>> {
    const state: Record<string, HostTensor> = {};
    for (const [name, tensor] of Object.entries(this.stateTensors())) state[name] = await this.device.download(tensor);
    return state;
  }

  write(tensors: TensorMap<HostTensor>): void {
    this.adopt(mapTensors(tensors, (tensor) => this.device.upload(tensor)));
  }

  dispose(): void {
    this.disposed = true;
    this.release(this.stateTensors());
    for (const program of [this.addition, this.updating]) {
      void program?.then(
        (compiled) => compiled.dispose(),
        () => undefined,
      );
    }
  }

  private stateTensors(): Tensors<D> {
    const { params, m, v, averaged = {} } = this;
    return {
      ...prefixed(params, "params."),
      ...prefixed(m, "m."),
      ...prefixed(v, "v."),
      ...prefixed(averaged, "averaged."),
    };
  }

  /** Replaces all tensors. The returned records stay the same objects; their entries change. */
  private adopt(next: TensorMap<D>): void {
    this.release(this.stateTensors());
    for (const part of this.parts) Object.assign(this[part] ?? {}, select(next, `${part}.`));
  }

  private release(tensors: TensorMap<D>): void {
    for (const tensor of Object.values(tensors)) this.device.dispose(tensor);
  }

  private takeSum(): Promise<TensorMap<D>> | undefined {
    const { sum } = this;
    this.sum = undefined;
    return sum;
  }

  private async add(pending: Promise<TensorMap<D>>, gradients: TensorMap<D>): Promise<TensorMap<D>> {
    try {
      const sum = await pending;
      try {
        const addition = await (this.addition ??= this.compileAddition());
        return await addition.run(prefixed(sum, "sum."), prefixed(gradients, "gradient."));
      } finally {
        this.release(sum);
      }
    } finally {
      this.release(gradients);
    }
  }

  private compileAddition(): Promise<CompiledProgram<D>> {
    const names = [...this.shapes.keys()];
    const program: Program = (ops, sum, gradients) =>
      Object.fromEntries(names.map((name) => [name, ops.add(sum[`sum.${name}`]!, gradients[`gradient.${name}`]!)]));
    return this.device.compile(program, {
      params: prefixed(this.specs, "sum."),
      inputs: prefixed(this.specs, "gradient."),
    });
  }

  private compileUpdate(): Promise<CompiledProgram<D>> {
    const { optimizer } = this;
    const averages = this.averaged !== undefined;
    const program: Program = (ops, tensors, { learningRate, count, first, secondRoot, averaging }) => {
      const { params, state, gradientNorm } = optimizer.update(ops, {
        params: select(tensors, "params."),
        gradients: mapTensors(select(tensors, "gradient."), (sum) => ops.div(sum, count!)),
        state: {
          m: select(tensors, "m."),
          v: select(tensors, "v."),
          averaged: averages ? select(tensors, "averaged.") : undefined,
        },
        learningRate: learningRate!,
        step: { first: first!, secondRoot: secondRoot!, averaging: averaging! },
      });
      return {
        gradientNorm,
        ...prefixed(params, "params."),
        ...prefixed(state.m, "m."),
        ...prefixed(state.v, "v."),
        ...prefixed(state.averaged ?? {}, "averaged."),
      };
    };
    const kinds = [...this.parts, "gradient"];
    return this.device.compile(program, {
      params: Object.assign({}, ...kinds.map((kind) => prefixed(this.specs, `${kind}.`))) as typeof this.specs,
      inputs: Object.fromEntries(
        ["learningRate", "count", "first", "secondRoot", "averaging"].map((name) => [name, { shape: [] }]),
      ),
    });
  }
}
