import type { NamedTensorMap } from "@tensorflow/tfjs";
import { MissingPackageError, SdxsError } from "../core/errors.js";
import { GraphBuilder } from "../graph/builder.js";
import { watchDevice, type GpuDevice, type GpuWatch } from "../core/gpu-device.js";
import { HostTensor } from "../core/host-tensor.js";
import type { Ops, TensorMap } from "../core/ops.js";
import type { Backend, CompileSpec, CompiledProgram, Program } from "../core/program.js";
import { programTrainable } from "../optim/program-layout.js";
import { checkAgainstSpec } from "../core/run-checks.js";
import { mapTensors } from "../core/parameters.js";
import type { Tensor, TensorFlow } from "./lazy.js";
import { tfjsOps } from "./ops.js";

export type TfjsBackendName = "cpu" | "wasm" | "webgl" | "webgpu" | "tensorflow";

export interface TfjsBackendOptions {
  /** The namespace of `@tensorflow/tfjs`: `import * as tf from "@tensorflow/tfjs"`. */
  readonly tf: TensorFlow;
  /**
   * Which tfjs backend computes. "wasm" and "webgpu" need their package to be imported before;
   * "tensorflow" is that of `@tensorflow/tfjs-node` and `@tensorflow/tfjs-node-gpu`.
   */
  readonly backend: TfjsBackendName;
}

/** The package that registers each backend. */
const packages: Readonly<Record<TfjsBackendName, string>> = {
  cpu: "@tensorflow/tfjs",
  webgl: "@tensorflow/tfjs",
  wasm: "@tensorflow/tfjs-backend-wasm",
  webgpu: "@tensorflow/tfjs-backend-webgpu",
  tensorflow: "@tensorflow/tfjs-node",
};

/**
 * A backend that runs programs with tfjs, operation by operation.
 *
 * Several of them may live at once (they switch tfjs's one active backend before they compute), but a tensor
 * belongs to the backend that made it. `memory` counts all tensors of tfjs.
 *
 * @throws MissingPackageError where the tfjs backend's package was not imported.
 * @throws SdxsError with code BACKEND_FAILURE where tfjs cannot start it (no WebGPU adapter, no .wasm file).
 *
 * On WebGPU, `run` and `download` throw DEVICE_LOST once the device is lost: a new `tfjsBackend` then starts tfjs on a
 * new device.
 *
 * @example
 * import * as tf from "@tensorflow/tfjs";
 * import "@tensorflow/tfjs-backend-wasm";
 * const backend = await tfjsBackend({ tf, backend: "wasm" });
 */
export async function tfjsBackend({ tf, backend: name }: TfjsBackendOptions): Promise<Backend<Tensor>> {
  // The declared type leaves out null.
  if ((tf.findBackendFactory(name) as object | null) === null) {
    throw new MissingPackageError(
      packages[name],
      `The tfjs backend "${name}", which registers itself when its package is imported,`,
    );
  }
  await start(tf, name);
  if (gpuDevice(tf)?.watch.isLost) {
    const factory = tf.findBackendFactory(name);
    tf.removeBackend(name);
    tf.registerBackend(name, factory);
    await start(tf, name);
  }
  const gpu = gpuDevice(tf);
  const ops = tfjsOps(tf);
  const activate = (): void => {
    gpu?.watch.check();
    // A backend that has started once is active again as soon as setBackend is called.
    if (tf.getBackend() !== name) void tf.setBackend(name);
  };
  const upload = (tensor: HostTensor): Tensor => {
    activate();
    // A copy: some tfjs backends read the data later, or keep it.
    return tf.tensor(tensor.data.slice(), [...tensor.shape], tensor.dtype);
  };
  const download = async (tensor: Tensor): Promise<HostTensor> => {
    activate();
    const data = await tensor.data();
    gpu?.watch.check();
    if (tensor.dtype === "bool") return new HostTensor(tensor.shape, Uint8Array.from(data));
    return new HostTensor(tensor.shape, tensor.dtype === "int32" ? Int32Array.from(data) : Float32Array.from(data));
  };
  const dispose = (tensor: Tensor): void => tf.dispose(tensor);

  const compile = async <In extends string, Out extends string>(
    program: Program<In, Out>,
    spec: CompileSpec<In>,
  ): Promise<CompiledProgram<Tensor, In, Out>> => {
    const started = performance.now();
    activate();
    checkByTracing(program, spec, gpu?.maxTensorBytes);
    const frozen = mapTensors(spec.frozen ?? {}, upload);
    return new TfjsProgram({ tf, ops, activate, upload }, program, spec, frozen, performance.now() - started);
  };

  return {
    name: `tfjs-${name}`,
    upload,
    download,
    dispose,
    memory() {
      const { numTensors, numBytes } = tf.memory();
      return { tensors: numTensors, bytes: numBytes };
    },
    compile,
    trainable: (initial, optimizer) =>
      programTrainable({ upload, download, dispose, compile, shapeOf: ({ shape }) => shape }, initial, optimizer),
  };
}

async function start(tf: TensorFlow, name: TfjsBackendName): Promise<void> {
  if (!(await tf.setBackend(name))) {
    throw new SdxsError(
      "BACKEND_FAILURE",
      `tfjs could not start its backend "${name}"; the console has its message. ` +
        `Check that the device offers it, or choose another backend.`,
    );
  }
  await tf.ready();
}

/** The device of the active backend, if that is WebGPU's, and the largest tensor that a shader can be given on it. */
function gpuDevice(tf: TensorFlow): { readonly watch: GpuWatch; readonly maxTensorBytes: number } | undefined {
  // A member that the declared type of all backends leaves out.
  const { device } = tf.backend() as { readonly device?: GpuDevice };
  if (tf.getBackend() !== "webgpu" || device === undefined) return undefined;
  const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
  return { watch: watchDevice(device), maxTensorBytes: Math.min(maxBufferSize, maxStorageBufferBindingSize) };
}

/** Runs a program once on symbolic tensors, so that mismatches are errors before anything is computed. */
function checkByTracing<In extends string>(program: Program<In>, spec: CompileSpec<In>, maxTensorBytes?: number): void {
  const builder = new GraphBuilder(maxTensorBytes);
  const params = { ...builder.inputs(spec.frozen ?? {}, "frozen:"), ...builder.inputs(spec.params ?? {}, "param:") };
  program(builder.ops, params, builder.inputs(spec.inputs, "input:"));
}

interface TfjsDevice {
  readonly tf: TensorFlow;
  readonly ops: Ops<Tensor>;
  /** Makes the backend the active one. Throws errors that its GPU has reported. */
  readonly activate: () => void;
  readonly upload: (tensor: HostTensor) => Tensor;
}

class TfjsProgram<In extends string, Out extends string> implements CompiledProgram<Tensor, In, Out> {
  private disposed = false;

  constructor(
    private readonly device: TfjsDevice,
    private readonly program: Program<In, Out>,
    private readonly spec: CompileSpec<In>,
    private readonly frozen: TensorMap<Tensor>,
    readonly compileMs: number,
  ) {}

  upload(params: TensorMap<HostTensor>): TensorMap<Tensor> {
    return mapTensors(params, this.device.upload);
  }

  async run(
    params: TensorMap<Tensor | HostTensor>,
    inputs: Readonly<Record<In, Tensor | HostTensor>>,
  ): Promise<Readonly<Record<Out, Tensor>>> {
    if (this.disposed) throw new SdxsError("DISPOSED", "This program was disposed of. Compile it again.");
    checkAgainstSpec("parameter", this.spec.params ?? {}, params);
    checkAgainstSpec("input", this.spec.inputs, inputs);
    const { tf, ops, activate, upload } = this.device;
    activate();
    return tf.tidy(() => {
      // Not instanceof: a HostTensor may come from the other of the package's ESM and CJS copies.
      const onDevice = (tensor: Tensor | HostTensor): Tensor => ("dataId" in tensor ? tensor : upload(tensor));
      const given = { ...this.frozen, ...mapTensors(params, onDevice) };
      const results = this.program(ops, given, mapTensors(inputs, onDevice) as Record<In, Tensor>);
      // A result may be an operand itself: a copy is owned separately.
      return mapTensors(results, (result) => tf.clone(result)) as NamedTensorMap as Record<Out, Tensor>;
    });
  }

  async dispose(): Promise<void> {
    if (!this.disposed) this.device.tf.dispose(Object.values(this.frozen));
    this.disposed = true;
  }
}
