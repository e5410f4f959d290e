import { HostTensor, InvalidArgumentError, SdxsError, type Backend, type Program } from "@sdxs/tensor";
import { onnxBackend, type OnnxRuntime } from "@sdxs/tensor/onnx";
import { tfjsBackend, type TensorFlow, type TfjsBackendName } from "@sdxs/tensor/tfjs";
import { requestGpuDevice, webgpuBackend, type Webgpu } from "@sdxs/tensor/webgpu";
import { missingGpu } from "./node-gpu.js";

/**
 * Where programs can run, the first that works being chosen:
 * - "webgpu": the browser's GPU, by kernels written for the program, by onnxruntime-web or else by tfjs
 * - "node-gpu": a GPU in Node, by onnxruntime-node (CUDA, DirectML, CoreML), by kernels written for the program, by
 *   onnxruntime-node's WebGPU or else by tfjs on the package webgpu
 * - "onnx": processors, by onnxruntime: native in Node, WebAssembly in browsers
 * - "tfjs": the first of tfjs's other backends that is registered: tfjs-node, wasm, webgl, cpu
 */
export type BackendName = "webgpu" | "node-gpu" | "onnx" | "tfjs";

export interface ChooseBackendOptions {
  /**
   * onnxruntime-node or onnxruntime-web ("onnxruntime-web/webgpu" for GPUs), or what imports it:
   * `() => import("onnxruntime-node")`.
   */
  readonly ort?: Importable<OnnxRuntime>;
  /** `@tensorflow/tfjs`, with the packages of its backends imported, or what imports it. */
  readonly tf?: Importable<TensorFlow>;
  /**
   * WebGPU, for kernels written for the program: `navigator.gpu` in browsers; in Node, what the package webgpu's `create` gives
   * (see `requestGpuDevice`), or what makes it.
   */
  readonly gpu?: Importable<Webgpu>;
  /** Only this one. Default: the first that works. */
  readonly name?: BackendName;
}

type Importable<M> = M | (() => Promise<M>);

export interface ChosenBackend {
  readonly backend: Backend<unknown>;
  readonly name: BackendName;
  /** One sentence for users: what runs, and why nothing before it does. */
  readonly reason: string;
}

/** One way to run programs. */
interface Candidate {
  readonly name: BackendName;
  /** As in "WebGPU by onnxruntime". */
  readonly what: string;
  /** Throws, with a reason for users, where it cannot be had. */
  readonly open: () => Promise<Backend<unknown>>;
}

/**
 * Opens the first backend that computes: each is given a small sum before it is chosen. A WebGPU that is emulated on the
 * processor is taken only where `name` asks for it.
 *
 * @throws SdxsError: BACKEND_FAILURE, which lists why each one was passed over; INVALID_ARGUMENT where none of onnxruntime,
 * tfjs and WebGPU is given.
 *
 * @example
 * const { backend, reason } = await chooseBackend({ ort: () => import("onnxruntime-web/webgpu") });
 * console.log(reason); // "WebGPU by onnxruntime."
 */
export async function chooseBackend(options: ChooseBackendOptions): Promise<ChosenBackend> {
  if (options.ort === undefined && options.tf === undefined && options.gpu === undefined) {
    throw new InvalidArgumentError(
      "chooseBackend: give onnxruntime as ort, tfjs as tf, WebGPU as gpu, or several of them.",
    );
  }
  const refusals: string[] = [];
  const refusing = async <R>(what: string, attempt: () => Promise<R>): Promise<R | undefined> => {
    try {
      return await attempt();
    } catch (error) {
      const [cause = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
      refusals.push(`No ${what}: ${cause.replace(/\.?$/, ".")}`);
      return undefined;
    }
  };
  const ort = await refusing("onnxruntime", () => imported(options.ort));
  const tf = await refusing("tfjs", () => imported(options.tf));
  const gpu = await refusing("WebGPU", () => imported(options.gpu));
  for (const { name, what, open } of candidates(options.name, ort, tf, gpu)) {
    const backend = await refusing(what, async () => {
      const opened = await open();
      await checkSum(opened);
      return opened;
    });
    if (backend !== undefined) return { backend, name, reason: [`${what}.`, ...refusals].join(" ") };
  }
  throw new SdxsError(
    "BACKEND_FAILURE",
    `chooseBackend: ${options.name === undefined ? "no backend" : `no backend "${options.name}"`} runs here with the modules ` +
      `that were given.\n${refusals.map((refusal) => `  ${refusal}`).join("\n")}`,
  );
}

/** onnxruntime-node's providers for GPUs, the fastest first, as people call them. */
const GPU_PROVIDERS = { cuda: "CUDA", dml: "DirectML", coreml: "CoreML", webgpu: "WebGPU" } as const;
/** tfjs's backends that need nothing else, the fastest first. */
const TFJS_BACKENDS: readonly TfjsBackendName[] = ["tensorflow", "wasm", "webgl", "cpu"];

function candidates(
  wanted: BackendName | undefined,
  ort: OnnxRuntime | undefined,
  tf: TensorFlow | undefined,
  gpu: Webgpu | undefined,
): Candidate[] {
  const all: Candidate[] = [];
  const own: Candidate[] =
    gpu === undefined
      ? []
      : [
          {
            name: isNode() ? "node-gpu" : "webgpu",
            what: "WebGPU",
            async open() {
              if (isNode()) checkMachine("webgpu", wanted);
              await checkAdapter(gpu, wanted === undefined);
              return webgpuBackend({ device: await requestGpuDevice(gpu) });
            },
          },
        ];
  const webgpuOf = async (open: () => Promise<Backend<unknown>>): Promise<Backend<unknown>> => {
    if (isNode()) checkMachine("webgpu", wanted);
    await checkAdapter((globalThis.navigator as { readonly gpu?: Gpu }).gpu, wanted === undefined);
    return open();
  };
  if (ort === undefined) all.push(...own);
  else {
    const provided = (name: BackendName, provider: string, what: string): Candidate => {
      const open = async () => {
        if (name === "node-gpu") checkMachine(provider, wanted);
        return onnxBackend({ ort, executionProviders: [provider] });
      };
      const isPageGpu = name === "webgpu";
      return { name, what: `${what} by onnxruntime`, open: isPageGpu ? () => webgpuOf(open) : open };
    };
    const supported = supportedProviders(ort);
    if (supported === undefined) {
      all.push(...own, provided("webgpu", "webgpu", "WebGPU"), provided("onnx", "wasm", "WebAssembly"));
    } else {
      for (const [provider, what] of Object.entries(GPU_PROVIDERS)) {
        if (provider === "webgpu") all.push(...own);
        if (supported.includes(provider)) all.push(provided("node-gpu", provider, what));
      }
      all.push(provided("onnx", "cpu", "the processor"));
    }
  }
  if (tf !== undefined) {
    const isRegistered = (backend: TfjsBackendName): boolean => (tf.findBackendFactory(backend) as unknown) !== null;
    if (isRegistered("webgpu")) {
      const open = () => webgpuOf(() => tfjsBackend({ tf, backend: "webgpu" }));
      all.push({ name: isNode() ? "node-gpu" : "webgpu", what: "WebGPU by tfjs", open });
    }
    for (const backend of TFJS_BACKENDS.filter(isRegistered)) {
      all.push({ name: "tfjs", what: `${backend} by tfjs`, open: () => tfjsBackend({ tf, backend }) });
    }
  }
  const names: readonly BackendName[] = wanted === undefined ? ["webgpu", "node-gpu", "onnx", "tfjs"] : [wanted];
  return names.flatMap((name) => all.filter((candidate) => candidate.name === name));
}

/** What onnxruntime-node can run on; undefined for onnxruntime-web. */
function supportedProviders({ listSupportedBackends }: OnnxRuntime): string[] | undefined {
  if (typeof listSupportedBackends !== "function") return undefined;
  return (listSupportedBackends as () => { readonly name: string }[])().map(({ name }) => name);
}

const isNode = (): boolean =>
  typeof process !== "undefined" && (process.versions as { node?: string }).node !== undefined;

async function imported<M extends object>(module: Importable<M> | undefined): Promise<M | undefined> {
  return typeof module === "function" ? module() : module;
}

/** Throws where this machine lacks what a provider would print that it misses. */
function checkMachine(provider: string, wanted: BackendName | undefined): void {
  const reason = missingGpu(provider, wanted !== undefined);
  if (reason !== undefined) throw new Error(reason);
}

/** Throws where the page has no WebGPU, or only one that is emulated. */
async function checkAdapter(gpu: Gpu | undefined, refuseEmulated: boolean): Promise<void> {
  if (gpu === undefined) throw new Error("this browser has none, or the page does not come by https.");
  const adapter = await gpu.requestAdapter();
  if (adapter === null) throw new Error("no graphics processor was found.");
  const isEmulated = adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter ?? false;
  if (refuseEmulated && isEmulated) throw new Error("it is only emulated here, which is slower than the processor.");
}

/** What is used of WebGPU, in its present and former form. */
interface Gpu {
  requestAdapter(): Promise<{
    readonly info?: { readonly isFallbackAdapter?: boolean };
    readonly isFallbackAdapter?: boolean;
  } | null>;
}

async function checkSum(backend: Backend<unknown>): Promise<void> {
  const addOne: Program<"x", "sum"> = (ops, _, { x }) => ({ sum: ops.add(x, 1) });
  const program = await backend.compile(addOne, { inputs: { x: { shape: [2] } } });
  const { sum } = await program.run({}, { x: HostTensor.from([2], [1, 2]) });
  const { data } = await backend.download(sum);
  backend.dispose(sum);
  await program.dispose();
  if (data[0] !== 2 || data[1] !== 3) throw new Error(`it gives ${data.join(", ")} for 1 + 1 and 2 + 1.`);
}
