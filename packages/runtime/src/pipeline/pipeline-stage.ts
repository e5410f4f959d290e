import {
  HostTensor,
  calibrate,
  specsOf,
  type Calibration,
  type Backend,
  type CompiledProgram,
  type CompileSpec,
  type HostParams,
  type Program,
  type TensorMap,
  type TensorSpec,
} from "@sdxs/tensor";

/** Networks up to this size become constants of their programs, which is faster: chosen. Larger ones are uploaded once. */
const CONSTANT_WEIGHTS_BYTES = 2 ** 26;

export interface PipelineStageOptions {
  /** In 8 bits, its weights being constants; those that are adapted compute in float32. */
  readonly int8?: Calibration | undefined;
  /** See `PipelineOptions.precision`. With "float16", weights are constants, and those that are adapted are converted in each run. */
  readonly precision?: CompileSpec["precision"];
  /** Keeps the inputs of each run, for `calibrate`. */
  readonly recording?: boolean;
}

/** One network of a pipeline: its weights, and its program compiled once for each shape. */
export class PipelineStage<D, In extends string, Out extends string> {
  private readonly isConstant: boolean;
  private readonly recorded: Readonly<Record<In, HostTensor>>[] = [];
  private readonly programs = new Map<string, CompiledProgram<D, In, Out>>();
  /** Those that take adapted weights in place of constants. */
  private readonly adaptedPrograms = new Map<string, CompiledProgram<D, In, Out>>();
  /** All weights, where they are not constants; from the first run on. */
  private uploaded: TensorMap<D> | undefined;
  /** Weights in place of its own, and what they are on the device from the next run on. */
  private changed: HostParams = {};
  private adapted: TensorMap<D> | undefined;
  /** Weights that were ever adapted, which adapted programs of constants take as parameters. */
  private readonly adaptable = new Set<string>();

  constructor(
    private readonly backend: Backend<D>,
    private readonly weights: HostParams,
    private readonly program: Program<In, Out>,
    private readonly options: PipelineStageOptions = {},
  ) {
    const bytes = Object.values(weights).reduce((sum, { data }) => sum + data.byteLength, 0);
    const isConverted = options.int8 !== undefined || options.precision === "float16";
    this.isConstant = bytes <= CONSTANT_WEIGHTS_BYTES || isConverted;
  }

  async run(
    specs: Readonly<Record<In, TensorSpec>>,
    inputs: Readonly<Record<In, D | HostTensor>>,
  ): Promise<Readonly<Record<Out, D>>> {
    const isAdapted = this.isConstant && Object.keys(this.changed).length > 0;
    const programs = isAdapted ? this.adaptedPrograms : this.programs;
    const key = JSON.stringify(specs);
    let ready = programs.get(key);
    if (ready === undefined) {
      const isParameter = (name: string): boolean => !this.isConstant || (isAdapted && this.adaptable.has(name));
      const entries = Object.entries(this.weights);
      const params = Object.fromEntries(entries.filter(([name]) => isParameter(name)));
      const frozen = Object.fromEntries(entries.filter(([name]) => !isParameter(name)));
      const { int8, precision } = this.options;
      const spec = {
        params: specsOf(params),
        arrangeParams: true,
        frozen,
        inputs: specs,
        ...(int8 && { int8 }),
        ...(precision && { precision }),
      };
      ready = await this.backend.compile(this.program, spec);
      programs.set(key, ready);
    }
    if (this.options.recording) this.recorded.push(await this.onHost(inputs));
    if (!this.isConstant) this.uploaded ??= ready.upload(this.weights);
    this.adapted ??= ready.upload(this.changed);
    return ready.run({ ...this.uploaded, ...this.adapted }, inputs);
  }

  /** Ranges of what the recorded runs computed. */
  async calibrate(): Promise<Calibration> {
    const [first] = this.recorded;
    if (!first) return {};
    return calibrate(this.backend, this.program, { frozen: this.weights, inputs: specsOf(first) }, this.recorded);
  }

  private async onHost(inputs: Readonly<Record<In, D | HostTensor>>): Promise<Readonly<Record<In, HostTensor>>> {
    const entries = Object.entries<D | HostTensor>(inputs).map(
      async ([name, tensor]) =>
        [name, tensor instanceof HostTensor ? tensor : await this.backend.download(tensor)] as const,
    );
    return Object.fromEntries(await Promise.all(entries)) as Record<In, HostTensor>;
  }

  /**
   * Runs with these weights in place of its own, of which it keeps all; without any, just as before the first adaptation.
   * Uploads nothing else. Where weights are constants, those that are adapted for the first time mean compiling again.
   */
  async adapt(changed: HostParams): Promise<void> {
    this.disposeOf({ ...this.adapted });
    this.adapted = undefined;
    const names = Object.keys(changed);
    if (this.isConstant && names.some((name) => !this.adaptable.has(name))) {
      await disposeAll(this.adaptedPrograms.values());
      this.adaptedPrograms.clear();
    }
    for (const name of names) this.adaptable.add(name);
    const wanted = this.isConstant && names.length > 0 ? [...this.adaptable] : names;
    this.changed = Object.fromEntries(wanted.map((name) => [name, changed[name] ?? this.weights[name]!]));
  }

  async dispose(): Promise<void> {
    this.disposeOf({ ...this.uploaded });
    this.disposeOf({ ...this.adapted });
    await disposeAll([...this.programs.values(), ...this.adaptedPrograms.values()]);
  }

  private disposeOf(tensors: TensorMap<D>): void {
    for (const tensor of Object.values(tensors)) this.backend.dispose(tensor);
  }
}

/** Disposes of all, even where one fails, as on a lost device; then throws what the first failure threw. */
export async function disposeAll(all: Iterable<{ dispose(): Promise<void> }>): Promise<void> {
  const results = await Promise.allSettled([...all].map((one) => one.dispose()));
  for (const result of results) if (result.status === "rejected") throw result.reason;
}
