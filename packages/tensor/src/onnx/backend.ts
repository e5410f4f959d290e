import type { InferenceSession, Tensor, TypedTensor } from "onnxruntime-common";
import type { AdamWOptions } from "../adamw.js";
import { GraphBuilder } from "../graph/builder.js";
import type { Node } from "../graph/node.js";
import { sameShape, show } from "../graph/shapes.js";
import { InvalidArgumentError, SdxsError, ShapeError } from "../errors.js";
import { HostTensor, type HostData } from "../host-tensor.js";
import type { TensorMap } from "../ops.js";
import type { Backend, CompiledProgram, CompileSpec, Program, TensorSpec, Trainable } from "../program.js";
import { lower, type LoweredGraph } from "./lower.js";
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
  /** Threads per operator. Default: onnxruntime's choice, one per core. */
  readonly threads?: number;
  /** Further options for each session; they override the adapter's. */
  readonly sessionOptions?: InferenceSession.SessionOptions;
}

/** Frozen weights beyond this size are handed over beside the model instead of being copied into it: chosen. */
const INLINE_WEIGHTS_BYTES = 2 ** 26;

/** A program as an ONNX graph, with the names by which to feed it. */
export function traceProgram<In extends string, Out extends string>(
  program: Program<In, Out>,
  spec: CompileSpec<In>,
  named = false,
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
  return lower(program(builder.ops, params, inputs), named);
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
  const { graph } = traceProgram(program, spec, true);
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

  return {
    name: `onnx-${providers[0] ?? "cpu"}`,
    upload,
    async download(tensor) {
      // The runtime's element types are those that the adapter declared for its graphs.
      return new HostTensor([...tensor.dims], (await tensor.getData()) as HostData);
    },
    dispose: (tensor) => {
      tensor.dispose();
    },
    memory: () => ({ tensors: 0, bytes: 0 }),
    compile: (program, spec) => compile(options, providers, upload, program, spec),
    trainable: (initial: TensorMap<HostTensor>, optimizer: AdamWOptions): Trainable<Tensor> =>
      new WasmTrainable(
        initial,
        optimizer,
        upload,
        (tensor) => (tensor as TypedTensor<"float32">).data as Float32Array<ArrayBuffer>,
      ),
  };
}

async function compile<In extends string, Out extends string>(
  options: OnnxBackendOptions,
  providers: readonly string[],
  upload: (tensor: HostTensor) => Tensor,
  program: Program<In, Out>,
  spec: CompileSpec<In>,
): Promise<CompiledProgram<Tensor, In, Out>> {
  const begin = performance.now();
  const { graph, inputs, outputs } = traceProgram(program, spec);
  const separate = graph.weightBytes > INLINE_WEIGHTS_BYTES;
  const { model, external } = graph.serialize(separate ? (name) => name : undefined);
  const externalData = Object.entries(external).flatMap(([path, pieces]) => pieces.map((data) => ({ path, data })));
  const session = await options.ort.InferenceSession.create(model, {
    executionProviders: [...providers],
    graphOptimizationLevel: "all",
    // Planning one block for all activations costs 20-30% more memory for at most 3% less time.
    enableMemPattern: false,
    // Warnings would tell of initializers that the optimiser folds away.
    logSeverityLevel: 3,
    ...(options.threads !== undefined && { intraOpNumThreads: options.threads }),
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
  let disposed = false;

  return {
    compileMs,
    async run(params, given, space = {}) {
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
      // What an output may be written into; null lets the runtime allocate.
      const fetches: Record<string, Tensor | null> = {};
      for (const [name, { value, rawShape }] of Object.entries(outputs)) {
        fetches[value] ??= space[name]?.reshape(rawShape) ?? null;
      }
      const results = await session.run(feeds, fetches).catch((cause: unknown) => {
        throw new SdxsError("BACKEND_FAILURE", `onnxruntime failed to run the program: ${String(cause)}`, { cause });
      });
      const taken = new Set<string>();
      const named = Object.entries(outputs).map(([name, { value, shape }]) => {
        const tensor = results[value];
        if (!tensor) throw new SdxsError("BACKEND_FAILURE", `onnxruntime gave no output "${name}".`);
        // Two outputs may be one value; each gets a tensor of its own, so that disposing one leaves the other.
        const fresh = !taken.has(value) && sameShape(tensor.dims, shape);
        taken.add(value);
        return [name, fresh ? tensor : tensor.reshape(shape)] as const;
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
