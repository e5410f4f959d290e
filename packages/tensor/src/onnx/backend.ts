import type { AdamWOptions, Trainable } from "../core/trainable.js";
import { GraphBuilder } from "../graph/builder.js";
import { recordProgram } from "../graph/record.js";
import { sameShape, show } from "../core/shapes.js";
import { InvalidArgumentError, SdxsError, ShapeError } from "../core/errors.js";
import { HostTensor, type Shape } from "../core/host-tensor.js";
import type { TensorMap } from "../core/ops.js";
import type { Backend, CompiledProgram, CompileSpec, Program, TensorSpec } from "../core/program.js";
import { programTrainable } from "../optim/program-layout.js";
import { mapTensors } from "../core/parameters.js";
import { freeNow } from "./free-memory.js";
import { lower, type LoweredGraph } from "./lower.js";
import type { SerializedModel } from "./model.js";
import type { OnnxTensor, OnnxTensors } from "./onnxruntime.js";
import { OpenSizes, type OpenShape } from "./open-sizes.js";
import { Runtime, type OnnxBackendOptions } from "./runtime.js";
import type { TraceOptions } from "./trace-options.js";
import { arenaTrainable } from "./arena-layout.js";
import { winogradShape, winogradWeight } from "./winograd.js";

export interface ExportOnnxOptions extends Pick<TraceOptions, "weights"> {
  /** The file beside the model that weights go to, which is needed above 2 GB. Default: they go into the model. */
  readonly externalName?: string;
  /** The file is written from this many bytes of weights on; fewer go into the model. Default 0. */
  readonly externalFromBytes?: number;
  /**
   * By the names of open sizes, what each has to be a multiple of, as { height: 8, width: 8 } for a U-Net that halves
   * images three times. Default 1 each.
   */
  readonly multiples?: Readonly<Record<string, number>>;
}

/** A program as an ONNX graph, with the names of its inputs. */
export function traceProgram<In extends string, Out extends string>(
  program: Program<In, Out>,
  spec: CompileSpec<In>,
  options: TraceOptions = {},
): LoweredGraph {
  const builder = new GraphBuilder(options.maxTensorBytes, options.openSizes && Infinity);
  const { outputs, constants } = recordProgram(builder, program, spec);
  const names = Object.entries(constants).map(([name, node]) => [node, name] as const);
  const ranges = names.flatMap(([node, name]) => {
    const calibrated = spec.int8?.[name];
    return calibrated ? [[node, calibrated] as const] : [];
  });
  const { precision } = spec;
  if (precision === "float16" && ranges.length > 0) {
    throw new InvalidArgumentError("compile: int8 and float16 exclude each other. Give one of int8 and precision.");
  }
  const weights = { names: new Map(names), float16: options.weights === "float16", int8: new Map(ranges) };
  return lower(outputs, { ...options, precision }, weights);
}

/** What `exportOnnx` is to write: as `CompileSpec`, but sizes of inputs may be names. */
export interface ExportOnnxSpec<In extends string = string> extends Omit<CompileSpec<In>, "inputs"> {
  readonly inputs: Readonly<Record<In, Omit<TensorSpec, "shape"> & { readonly shape: OpenShape }>>;
}

/**
 * Writes a program as an ONNX model (opset 17). A name in place of a size leaves it open: the model accepts any size there,
 * the same wherever the name occurs, and has the name as ONNX's symbolic dimension.
 *
 * @throws InvalidArgumentError for one name of an input and an output, for more than 2 GB of weights without
 * `externalName`, for a weight beyond float16's range, and where a size of the program depends on an open one in
 * other ways than by products.
 *
 * @example
 * const { model } = exportOnnx(program, { inputs: { x: { shape: ["batch", 4] } }, frozen: weights });
 * await writeFile("model.onnx", model);
 */
export function exportOnnx<In extends string, Out extends string>(
  program: Program<In, Out>,
  spec: ExportOnnxSpec<In>,
  { externalName, externalFromBytes = 0, multiples = {}, ...options }: ExportOnnxOptions = {},
): SerializedModel {
  const shapes = Object.values<{ readonly shape: OpenShape }>(spec.inputs).map(({ shape }) => shape);
  const names = new Set(shapes.flat().filter((size) => typeof size === "string"));
  const fixed = [...shapes, ...Object.values(spec.frozen ?? {}).map(({ shape }) => shape)].flat();
  const trace = (skipped: number): LoweredGraph => {
    const avoid = fixed.filter((size) => typeof size === "number");
    const openSizes = new OpenSizes(shapes, multiples, avoid, skipped);
    const inputs = Object.fromEntries(
      Object.entries<ExportOnnxSpec["inputs"][string]>(spec.inputs).map(([name, given]) => [
        name,
        { ...given, shape: openSizes.closed(given.shape) },
      ]),
    ) as CompileSpec<In>["inputs"];
    return traceProgram(
      program,
      { ...spec, inputs },
      { ...options, named: true, ...(names.size > 0 && { openSizes }) },
    );
  };
  const { graph, inputs, outputs } = trace(0);
  const both = inputs.find((name) => Object.hasOwn(outputs, name));
  if (both !== undefined) {
    throw new InvalidArgumentError(
      `exportOnnx: "${both}" is the name of an input and of an output, which an ONNX file cannot have. Rename one of them.`,
    );
  }
  // Any other dependence on an open size differs between two traces with other primes.
  if (names.size > 0 && !graph.hasSameNodes(trace(names.size).graph)) {
    throw new InvalidArgumentError(
      `exportOnnx: the program uses one of the open sizes ${[...names].join(", ")} in something other than a product of ` +
        `sizes. Give them numbers.`,
    );
  }
  const isExternal = externalName !== undefined && graph.weightBytes >= externalFromBytes;
  return graph.serialize(isExternal ? () => externalName : undefined);
}

/**
 * The adapter for onnxruntime: a program is traced once into an ONNX graph, its gradients included, and compiled
 * into a session.
 *
 * With onnxruntime-web on "webgpu", results and parameters in training stay on the GPU: dispose of results, which
 * `memory` counts. The first compilation also starts a session that is kept, since onnxruntime destroys the GPU
 * device, with all tensors, together with its last session. onnxruntime-node's "webgpu" copies results to host memory.
 *
 * @example
 * import * as ort from "onnxruntime-node";
 * const backend = onnxBackend({ ort });
 */
export function onnxBackend(options: OnnxBackendOptions): Backend<OnnxTensor> {
  const runtime = new Runtime(options);
  const upload = (tensor: HostTensor): OnnxTensor => new options.ort.Tensor(tensor.dtype, tensor.data, tensor.shape);
  const download = async (tensor: OnnxTensor): Promise<HostTensor> => {
    runtime.check();
    const data = await runtime.read(tensor);
    runtime.check();
    return new HostTensor([...tensor.dims], data);
  };
  const dispose = (tensor: OnnxTensor): void => runtime.dispose([tensor]);
  const compile = <In extends string, Out extends string>(program: Program<In, Out>, spec: CompileSpec<In>) =>
    compileProgram(runtime, upload, program, spec);
  const shapeOf = (tensor: OnnxTensor): Shape => tensor.dims;

  return {
    name: `onnx-${runtime.providers[0] ?? "cpu"}`,
    upload,
    download,
    dispose,
    memory: () => runtime.deviceTensors?.memory() ?? { tensors: 0, bytes: 0 },
    compile,
    trainable(initial: TensorMap<HostTensor>, optimizer: AdamWOptions): Trainable<OnnxTensor> {
      if (runtime.deviceTensors) {
        const copy = ({ shape, data }: HostTensor): OnnxTensor => upload(new HostTensor(shape, data.slice()));
        return programTrainable({ upload: copy, download, dispose, compile, shapeOf }, initial, optimizer);
      }
      return arenaTrainable(initial, optimizer, {
        wrap: upload,
        shapeOf,
        takeData: (tensor) => runtime.takeData(tensor),
        dispose: (tensors) => runtime.dispose(tensors),
      });
    },
  };
}

async function compileProgram<In extends string, Out extends string>(
  runtime: Runtime,
  upload: (tensor: HostTensor) => OnnxTensor,
  program: Program<In, Out>,
  spec: CompileSpec<In>,
): Promise<CompiledProgram<OnnxTensor, In, Out>> {
  const begin = performance.now();
  const isExact = spec.precision !== "float16";
  const arrangeable =
    spec.arrangeParams && runtime.isCpu && isExact ? new Set(Object.keys(spec.params ?? {})) : undefined;
  const options = { ...(await runtime.start()), arrangeable };
  if (!isExact) runtime.requireFloat16();
  const { graph, inputs, outputs, arranged } = traceProgram(program, spec, options);
  const session = await runtime.createSession(graph);
  const compileMs = performance.now() - begin;
  const specs: Readonly<Record<string, TensorSpec>> = { ...spec.params, ...spec.inputs };
  // Several of the program's outputs may be one of the graph's.
  const outputsOf = new Map<string, [name: string, shape: Shape][]>();
  for (const [name, { value, shape }] of Object.entries(outputs)) {
    outputsOf.set(value, [...(outputsOf.get(value) ?? []), [name, shape]]);
  }
  const fetches = [...outputsOf.keys()];
  let disposed = false;

  return {
    compileMs,
    upload: (params, { consume = false } = {}) =>
      mapTensors(params, (host, name) => {
        const expected = specs[name];
        const tensor = expected ? checked(name, expected, upload(host)) : upload(host);
        if (!arranged.has(name)) return tensor;
        const transformed = upload(winogradWeight(host));
        if (consume && host.data.byteLength === host.data.buffer.byteLength) freeNow([host.data.buffer]);
        return transformed;
      }),
    async run(params, given) {
      if (disposed) throw new SdxsError("DISPOSED", "run: this compiled program was disposed. Compile it again.");
      const feeds: Record<string, OnnxTensor> = {};
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
        const check = arranged.has(name) ? checkedArranged : checked;
        feeds[name] = check(name, expected, "dims" in tensor ? tensor : upload(tensor));
      }
      return named(await runtime.run(session, feeds, fetches)) as Record<Out, OnnxTensor>;
    },
    async dispose() {
      if (disposed) return;
      disposed = true;
      await runtime.release(session);
    },
  };

  /** The program's outputs from the graph's, each a separate tensor, to be disposed of separately. */
  function named(results: OnnxTensors): Record<string, OnnxTensor> {
    const tensors: Record<string, OnnxTensor> = {};
    for (const [value, users] of outputsOf) {
      const tensor = results[value];
      if (!tensor) throw new SdxsError("BACKEND_FAILURE", `onnxruntime returned no output "${users[0]?.[0]}".`);
      const shapes = users.map(([, shape]) => shape);
      const views = runtime.views(tensor, shapes);
      users.forEach(([name], i) => {
        tensors[name] = views[i]!;
      });
    }
    return tensors;
  }
}

function checked(name: string, { shape, dtype = "float32" }: TensorSpec, tensor: OnnxTensor): OnnxTensor {
  if (!sameShape(tensor.dims, shape)) {
    throw new ShapeError(`run: "${name}" was compiled for shape ${show(shape)}, got ${show(tensor.dims)}.`);
  }
  if (tensor.type !== dtype) {
    throw new SdxsError("DTYPE_MISMATCH", `run: "${name}" was compiled for ${dtype}, got ${tensor.type}.`);
  }
  return tensor;
}

function checkedArranged(name: string, { shape }: TensorSpec, tensor: OnnxTensor): OnnxTensor {
  if (sameShape(tensor.dims, winogradShape(shape))) return tensor;
  throw new InvalidArgumentError(
    `run: the program arranges its parameters, and "${name}" was not arranged. Pass what its upload gave.`,
  );
}
