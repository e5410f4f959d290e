import { SdxsError } from "../core/errors.js";
import { noFloat16, watchDevice, type GpuDevice, type GpuWatch } from "../core/gpu-device.js";
import type { HostData, Shape } from "../core/host-tensor.js";
import { sameShape } from "../core/shapes.js";
import { DeviceTensors } from "./device-tensors.js";
import { freeNow } from "./free-memory.js";
import { disableTelemetry } from "./telemetry.js";
import { channelBlockProbe } from "./convolution.js";
import { OnnxGraph } from "./model.js";
import type { OnnxRuntime, OnnxSession, OnnxTensor, OnnxTensors } from "./onnxruntime.js";
import type { TraceOptions } from "./trace-options.js";

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
  /** Further options for each session, as onnxruntime's `InferenceSession.SessionOptions`; they override the adapter's. */
  readonly sessionOptions?: object;
}

/** Up to this many processors all are used, see `OnnxBackendOptions.threads`: chosen. */
const FEW_PROCESSORS = 4;

/** Processors of this machine, or undefined: from navigator in browsers and from Node 21 on, else from Node's module. */
function fewProcessors(): number | undefined {
  const inNode = (globalThis as { process?: { getBuiltinModule?(name: string): { availableParallelism(): number } } })
    .process;
  const count =
    inNode?.getBuiltinModule?.("node:os").availableParallelism() ??
    (globalThis as { navigator?: { hardwareConcurrency?: number } }).navigator?.hardwareConcurrency;
  return count !== undefined && count <= FEW_PROCESSORS ? count : undefined;
}

/** Frozen weights above this size are passed beside the model instead of being copied into it: chosen. */
const INLINE_WEIGHTS_BYTES = 2 ** 26;

/** The pending calls of each onnxruntime, run one after the other: on WebGPU, overlapping calls never return. */
const calls = new WeakMap<OnnxRuntime, Promise<unknown>>();

/** The GPU device of one onnxruntime, which all backends on it share. */
interface KeptDevice {
  /** Does nothing. onnxruntime destroys the device, with all tensors, together with its last session. */
  readonly session: OnnxSession;
  /** The device, as onnxruntime exposes it; undefined in Node. */
  readonly watch: GpuWatch | undefined;
  readonly maxTensorBytes: number;
  /** Undefined where onnxruntime does not expose it. */
  readonly hasFloat16: boolean | undefined;
}

/** Channels per block of each runtime's blocked convolution on this processor; 0 where there is none. */
const channelBlocks = new WeakMap<OnnxRuntime, Promise<number>>();

const devices = new WeakMap<OnnxRuntime, Promise<KeptDevice>>();

/** One onnxruntime with one choice of execution providers, and what depends on both. */
export class Runtime {
  readonly providers: readonly string[];
  /** Results on the GPU, where the runtime leaves them there. onnxruntime-node aborts where that is requested. */
  readonly deviceTensors: DeviceTensors | undefined;
  /** Whether the processor computes: natively, or in a browser as WASM. */
  readonly isCpu: boolean;
  private readonly webgpu: boolean;
  private device: KeptDevice | undefined;
  /** Results in host memory that nothing else uses. */
  private readonly owned = new WeakSet<OnnxTensor>();

  constructor(private readonly options: OnnxBackendOptions) {
    const { ort, executionProviders = ["cpu"] } = options;
    this.providers = executionProviders;
    this.isCpu = executionProviders[0] === "cpu" || executionProviders[0] === "wasm";
    this.webgpu = executionProviders.includes("webgpu");
    const isNode = ort.listSupportedBackends !== undefined;
    if (isNode) disableTelemetry();
    this.deviceTensors =
      this.webgpu && !isNode && ort.Tensor.fromGpuBuffer !== undefined
        ? new DeviceTensors((buffer, options) => ort.Tensor.fromGpuBuffer!(buffer, options))
        : undefined;
  }

  /** How to write graphs for the runtime. On WebGPU, starts the device, which is kept until it is lost. */
  async start(): Promise<TraceOptions> {
    this.check();
    if (!this.webgpu) return { channelBlock: this.providers[0] === "cpu" ? await this.channelBlock() : 0 };
    if (!this.device) {
      const { ort } = this.options;
      const device = devices.get(ort) ?? this.keepDevice();
      devices.set(ort, device);
      this.device = await device.catch((error: unknown) => {
        devices.delete(ort);
        throw error;
      });
      this.check();
    }
    return { webgpu: true, maxTensorBytes: this.device.maxTensorBytes };
  }

  /** Throws where the device is known not to compute in float16. Call it after `start`. */
  requireFloat16(): void {
    if (this.device?.hasFloat16 === false) throw noFloat16();
  }

  /** Throws errors that the GPU has reported. */
  check(): void {
    if (this.device?.watch?.isLost) this.forget(this.device);
    this.device?.watch?.check();
  }

  async createSession(graph: OnnxGraph): Promise<OnnxSession> {
    const separate = graph.weightBytes > INLINE_WEIGHTS_BYTES;
    const { model, external } = graph.serialize(separate ? (name) => name : undefined);
    const externalData = Object.entries(external).flatMap(([path, pieces]) => pieces.map((data) => ({ path, data })));
    const { ort, threads = fewProcessors(), sessionOptions } = this.options;
    const create = () =>
      ort.InferenceSession.create(model, {
        executionProviders: [...this.providers],
        graphOptimizationLevel: "all",
        // Planning one block for all activations costs 20-30% more memory for at most 3% less time.
        enableMemPattern: false,
        // Threads wait for the next run by spinning; those of one stage would take the processor from the next stage's.
        ...(this.isCpu && { extra: { session: { force_spinning_stop: "1" } } }),
        // Warnings would be about initializers that the optimiser folds.
        logSeverityLevel: 3,
        ...(threads !== undefined && { intraOpNumThreads: threads }),
        ...(externalData.length > 0 && { externalData }),
        ...(this.deviceTensors && { preferredOutputLocation: "gpu-buffer" as const }),
        ...sessionOptions,
      });
    return this.inTurn(create, `onnxruntime refused the graph on ${this.providers.join(", ")}`);
  }

  async run(session: OnnxSession, feeds: OnnxTensors, fetches: readonly string[]): Promise<OnnxTensors> {
    this.check();
    const results = await this.inTurn(() => session.run(feeds, fetches), "onnxruntime failed to run the program");
    this.check();
    return results;
  }

  async release(session: OnnxSession): Promise<void> {
    await this.inTurn(() => session.release(), "onnxruntime failed to release a program");
  }

  /** One tensor per shape, each to be disposed of separately, of the elements of one result. */
  views(result: OnnxTensor, shapes: readonly Shape[]): readonly OnnxTensor[] {
    // Results without elements lie in host memory all the same.
    if (this.deviceTensors && result.location === "gpu-buffer") return this.deviceTensors.views(result, shapes);
    const tensors = shapes.map((shape, i) =>
      i === 0 && sameShape(result.dims, shape) ? result : result.reshape(shape),
    );
    const [only, ...others] = tensors;
    if (only && others.length === 0) this.owned.add(only);
    return tensors;
  }

  /** A tensor's elements in memory that stays unchanged. */
  async read(tensor: OnnxTensor): Promise<HostData> {
    if (tensor.location === "gpu-buffer" && this.deviceTensors) return this.deviceTensors.read(tensor);
    // The runtime's element types are those that the adapter declared for its graphs.
    const data = (await tensor.getData()) as HostData;
    return this.owned.delete(tensor) ? data : data.slice();
  }

  /** The elements of a float32 tensor in host memory, to be changed in place: a copy where the memory is shared. */
  takeData(tensor: OnnxTensor): Float32Array<ArrayBuffer> {
    const data = tensor.data as Float32Array<ArrayBuffer>;
    return this.owned.has(tensor) ? data : data.slice();
  }

  dispose(tensors: readonly OnnxTensor[]): void {
    const mine = tensors.filter((tensor) => this.owned.delete(tensor) && tensor.location === "cpu");
    freeNow(mine.map(({ data }) => (data as HostData).buffer));
    for (const tensor of tensors) tensor.dispose();
  }

  private channelBlock(): Promise<number> {
    const { ort } = this.options;
    const measure = async (): Promise<number> => {
      const session = await ort.InferenceSession.create(channelBlockProbe(), { logSeverityLevel: 4 });
      const image = new ort.Tensor(
        "float32",
        Float32Array.from({ length: 64 }, (_, i) => i),
        [1, 32, 1, 2],
      );
      const [blocks] = Object.values(await session.run({ image }));
      await session.release();
      return (blocks!.data as Float32Array).indexOf(1);
    };
    // A runtime or a processor without it refuses the graph.
    const known = channelBlocks.get(ort) ?? this.inTurn(measure, "no blocked convolution").catch(() => 0);
    channelBlocks.set(ort, known);
    return known;
  }

  private async keepDevice(): Promise<KeptDevice> {
    const graph = new OnnxGraph();
    graph.input("x", "float32", [1]);
    graph.output(graph.node("Identity", ["x"])[0] ?? "", "float32", [1]);
    const session = await this.createSession(graph);
    const { webgpu } = this.options.ort.env ?? {};
    if (!this.deviceTensors || !webgpu || !("device" in webgpu)) {
      return { session, watch: undefined, maxTensorBytes: Infinity, hasFloat16: undefined };
    }
    const device = (await webgpu.device) as GpuDevice;
    const { limits, features } = device;
    const hasFloat16 = features.has("shader-f16");
    return { session, watch: watchDevice(device), maxTensorBytes: limits.maxBufferSize, hasFloat16 };
  }

  /** Lets onnxruntime make another device in place of one that is lost, once all of its sessions are released. */
  private forget(device: KeptDevice): void {
    const { ort } = this.options;
    void devices.get(ort)?.then((kept) => {
      if (kept !== device) return;
      devices.delete(ort);
      void this.release(kept.session).catch(() => undefined);
    });
  }

  private async inTurn<Result>(call: () => Promise<Result>, failure: string): Promise<Result> {
    const { ort } = this.options;
    const result = (calls.get(ort) ?? Promise.resolve()).then(call);
    calls.set(
      ort,
      result.catch(() => undefined),
    );
    try {
      return await result;
    } catch (cause) {
      this.check();
      // onnxruntime-node does not report it earlier.
      if (String(cause).includes("requires f16 but the device does not support it")) throw noFloat16(cause);
      throw new SdxsError("BACKEND_FAILURE", `${failure}: ${String(cause)}`, { cause });
    }
  }
}
