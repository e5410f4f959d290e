import type { InferenceSession, Tensor, TypedTensor } from "onnxruntime-common";
import type { AdamWOptions } from "../adamw.js";
import { GraphBuilder } from "../graph/builder.js";
import type { Node } from "../graph/node.js";
import { sameShape, show } from "../graph/shapes.js";
import { InvalidArgumentError, SdxsError, ShapeError } from "../errors.js";
import { HostTensor, type HostData } from "../host-tensor.js";
import type { TensorMap } from "../ops.js";
import type { Backend, CompiledProgram, CompileSpec, Program, TensorSpec, Trainable } from "../program.js";
import { channelBlockProbe, lower, type LoweredGraph, type LoweringOptions } from "./lower.js";
import type { SerializedModel } from "./model.js";
import { WasmTrainable } from "./trainable.js";

/** What the adapter uses of onnxruntime: the module `onnxruntime-node` or `onnxruntime-web` itself. */
export interface OnnxRuntime {
  readonly InferenceSession: {
    create(model: Uint8Array, options?: InferenceSession.SessionOptions): Promise<InferenceSession>;
  };
  readonly Tensor: new (type: "float32" | "int32" | "bool", data: HostData, dims: readonly number[]) => Tensor;
}

export interface OnnxBackendOptions {
  /** The onnxruntime to run on: `import * as ort from "onnxruntime-node"` or `"onnxruntime-web"`. */
  readonly ort: OnnxRuntime;
  /** Default ["cpu"]. As onnxruntime names them: "cpu", "webgpu", "cuda", "wasm", ... */
  readonly executionProviders?: readonly string[];
  /**
   * Threads per operator. Default: all processors where there are four or fewer, since those are as a rule a virtual
   * machine's, of which onnxruntime would use every other one; else onnxruntime's choice, one per physical core.
   */
  readonly threads?: number;
  /** Further options for each session; they override the adapter's. */
  readonly sessionOptions?: InferenceSession.SessionOptions;
}

/** Up to this many processors all are used, see `OnnxBackendOptions.threads`: chosen. */
const FEW_PROCESSORS = 4;

/** What runs at once on this machine, or undefined: navigator in browsers and from Node 21 on, else Node's own module. */
function fewProcessors(): number | undefined {
  const inNode = (globalThis as { process?: { getBuiltinModule?(name: string): { availableParallelism(): number } } })
    .process;
  const count =
    inNode?.getBuiltinModule?.("node:os").availableParallelism() ??
    (globalThis as { navigator?: { hardwareConcurrency?: number } }).navigator?.hardwareConcurrency;
  return count !== undefined && count <= FEW_PROCESSORS ? count : undefined;
}

/** Frozen weights beyond this size are handed over beside the model instead of being copied into it: chosen. */
const INLINE_WEIGHTS_BYTES = 2 ** 26;

/** A program as an ONNX graph, with the names by which to feed it. */
export function traceProgram<In extends string, Out extends string>(
  program: Program<In, Out>,
  spec: CompileSpec<In>,
  options: LoweringOptions = {},
): LoweredGraph {
  const builder = new GraphBuilder();
  const declare = (specs: Readonly<Record<string, TensorSpec>>): Record<string, Node> =>
    Object.fromEntries(
      Object.entries(specs).map(([name, { shape, dtype = "float32" }]) => [name, builder.input(name, shape, dtype)]),
    );
  const given = spec.params ?? {};
  const frozen = spec.frozen ?? {};
  const clash = Object.keys(spec.inputs).find((name) => name in given || name in frozen);
  if (clash !== undefined) {
    throw new InvalidArgumentError(
      `compile: "${clash}" is the name of an input and of a parameter. Rename one of them.`,
    );
  }
  const params = {
    ...declare(given),
    ...Object.fromEntries(
      Object.entries(frozen).map(([name, { data, shape }]) => [name, builder.constant(data, shape)]),
    ),
  };
  const inputs = declare(spec.inputs) as Record<In, Node>;
  return lower(program(builder.ops, params, inputs), options);
}

/**
 * Writes a program as an ONNX model (opset 18). With `externalName`, weights go to a file of that name beside it,
 * which is needed above 2 GB.
 *
 * @example
 * const { model } = exportOnnx(program, { inputs: { x: { shape: [1, 4] } }, frozen: weights });
 * await writeFile("model.onnx", model);
 */
export function exportOnnx<In extends string, Out extends string>(
  program: Program<In, Out>,
  spec: CompileSpec<In>,
  externalName?: string,
): SerializedModel {
  const { graph } = traceProgram(program, spec, { named: true });
  return graph.serialize(externalName === undefined ? undefined : () => externalName);
}

/**
 * The adapter for onnxruntime: a program is traced once into an ONNX graph, its gradients included, and compiled
 * into a session.
 *
 * @example
 * import * as ort from "onnxruntime-node";
 * const backend = onnxBackend({ ort });
 */
export function onnxBackend(options: OnnxBackendOptions): Backend<Tensor> {
  const providers = options.executionProviders ?? ["cpu"];
  const upload = (tensor: HostTensor): Tensor => new options.ort.Tensor(tensor.dtype, tensor.data, tensor.shape);
  // Results whose memory nothing else uses.
  const owned = new WeakSet<Tensor>();
  const dispose = (tensors: readonly Tensor[]): void => {
    const mine = tensors.filter((tensor) => owned.delete(tensor) && tensor.location === "cpu");
    freeNow(mine.map(({ data }) => (data as HostData).buffer));
    for (const tensor of tensors) tensor.dispose();
  };

  return {
    name: `onnx-${providers[0] ?? "cpu"}`,
    upload,
    async download(tensor) {
      owned.delete(tensor);
      // The runtime's element types are those that the adapter declared for its graphs.
      return new HostTensor([...tensor.dims], (await tensor.getData()) as HostData);
    },
    dispose: (tensor) => {
      dispose([tensor]);
    },
    memory: () => ({ tensors: 0, bytes: 0 }),
    compile: (program, spec) => compile(options, providers, upload, owned, program, spec),
    trainable: (initial: TensorMap<HostTensor>, optimizer: AdamWOptions): Trainable<Tensor> =>
      new WasmTrainable(initial, optimizer, {
        wrap: upload,
        dataOf: (tensor) => (tensor as TypedTensor<"float32">).data as Float32Array<ArrayBuffer>,
        dispose,
      }),
  };
}

/** Large enough to find room above other memory only: chosen. */
const CEILING_BYTES = 2 ** 17;
/** The memory of one number and the like is not worth the call: chosen. */
const FREED_FROM_BYTES = 2 ** 16;
let nowhere: MessagePort | undefined;
let ceiling: ArrayBuffer | undefined;

/**
 * Frees memory instead of leaving it to some later garbage collection: a training step's gradients are as large as the
 * model. What is transferred to a closed port belongs to nobody.
 *
 * A new block above keeps the allocator from giving the memory back to the system: the next step would have to ask for
 * it again, and have each of its pages cleared, which may take a third of the step's time.
 */
function freeNow(buffers: readonly ArrayBuffer[]): void {
  if (typeof MessageChannel === "undefined" || buffers.every(({ byteLength }) => byteLength < FREED_FROM_BYTES)) return;
  if (!nowhere) {
    nowhere = new MessageChannel().port1;
    nowhere.close();
  }
  ceiling = new ArrayBuffer(CEILING_BYTES);
  nowhere.postMessage(ceiling.byteLength, [...buffers]);
}

const channelBlocks = new WeakMap<OnnxRuntime, Promise<number>>();

/** Channels per block of this runtime's blocked convolution on this processor; 0 where there is none. */
function channelBlockOf(ort: OnnxRuntime): Promise<number> {
  const measure = async (): Promise<number> => {
    const session = await ort.InferenceSession.create(channelBlockProbe(), { logSeverityLevel: 4 });
    const image = new ort.Tensor(
      "float32",
      Float32Array.from({ length: 64 }, (_, i) => i),
      [1, 32, 1, 2],
    );
    const [blocks] = Object.values(await session.run({ image }));
    await session.release();
    return (blocks as TypedTensor<"float32">).data.indexOf(1);
  };
  // A runtime or a processor without it refuses the graph.
  const known = channelBlocks.get(ort) ?? measure().catch(() => 0);
  channelBlocks.set(ort, known);
  return known;
}

async function compile<In extends string, Out extends string>(
  options: OnnxBackendOptions,
  providers: readonly string[],
  upload: (tensor: HostTensor) => Tensor,
  owned: WeakSet<Tensor>,
  program: Program<In, Out>,
  spec: CompileSpec<In>,
): Promise<CompiledProgram<Tensor, In, Out>> {
  const begin = performance.now();
  const channelBlock = providers[0] === "cpu" ? await channelBlockOf(options.ort) : 0;
  const { graph, inputs, outputs } = traceProgram(program, spec, { channelBlock });
  const separate = graph.weightBytes > INLINE_WEIGHTS_BYTES;
  const { model, external } = graph.serialize(separate ? (name) => name : undefined);
  const externalData = Object.entries(external).flatMap(([path, pieces]) => pieces.map((data) => ({ path, data })));
  const threads = options.threads ?? fewProcessors();
  const session = await options.ort.InferenceSession.create(model, {
    executionProviders: [...providers],
    graphOptimizationLevel: "all",
    // Planning one block for all activations costs 20-30% more memory for at most 3% less time.
    enableMemPattern: false,
    // Warnings would tell of initializers that the optimiser folds away.
    logSeverityLevel: 3,
    ...(threads !== undefined && { intraOpNumThreads: threads }),
    ...(externalData.length > 0 && { externalData }),
    ...options.sessionOptions,
  }).catch((cause: unknown) => {
    throw new SdxsError(
      "BACKEND_FAILURE",
      `onnxruntime refused the graph on ${providers.join(", ")}: ${String(cause)}`,
      { cause },
    );
  });
  const compileMs = performance.now() - begin;
  const specs: Readonly<Record<string, TensorSpec>> = { ...spec.params, ...spec.inputs };
  const fetches = [...new Set(Object.values(outputs).map(({ value }) => value))];
  let disposed = false;

  return {
    compileMs,
    async run(params, given) {
      if (disposed) throw new SdxsError("DISPOSED", "run: this compiled program was disposed. Compile it again.");
      const feeds: Record<string, Tensor> = {};
      for (const name of inputs) {
        const isInput = name in spec.inputs;
        const tensor = isInput ? given[name as In] : params[name];
        const expected = specs[name];
        if (!tensor || !expected) {
          throw new SdxsError(
            isInput ? "INVALID_ARGUMENT" : "MISSING_PARAMETER",
            `run: the program was compiled with the ${isInput ? "input" : "parameter"} "${name}", which is missing.`,
          );
        }
        // Not instanceof: a HostTensor may come from the other of the package's ESM and CJS copies.
        feeds[name] = checked(name, expected, "dims" in tensor ? tensor : upload(tensor));
      }
      const results = await session.run(feeds, fetches).catch((cause: unknown) => {
        throw new SdxsError("BACKEND_FAILURE", `onnxruntime failed to run the program: ${String(cause)}`, { cause });
      });
      const taken = new Map<string, Tensor>();
      const named = Object.entries(outputs).map(([name, { value, shape }]) => {
        const result = results[value];
        if (!result) throw new SdxsError("BACKEND_FAILURE", `onnxruntime gave no output "${name}".`);
        // Two outputs may be one value; each gets a tensor of its own, so that disposing one leaves the other.
        const first = taken.get(value);
        const tensor = !first && sameShape(result.dims, shape) ? result : result.reshape(shape);
        if (first) owned.delete(first);
        else owned.add(tensor);
        taken.set(value, tensor);
        return [name, tensor] as const;
      });
      return Object.fromEntries(named) as Record<Out, Tensor>;
    },
    async dispose() {
      if (disposed) return;
      disposed = true;
      await session.release();
    },
  };
}

function checked(name: string, { shape, dtype = "float32" }: TensorSpec, tensor: Tensor): Tensor {
  if (!sameShape(tensor.dims, shape)) {
    throw new ShapeError(`run: "${name}" was compiled for shape ${show(shape)}, got ${show(tensor.dims)}.`);
  }
  if (tensor.type !== dtype) {
    throw new SdxsError("DTYPE_MISMATCH", `run: "${name}" was compiled for ${dtype}, got ${tensor.type}.`);
  }
  return tensor;
}
