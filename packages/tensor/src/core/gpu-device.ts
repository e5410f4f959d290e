import { SdxsError } from "./errors.js";

/** The part of WebGPU's GPUDevice that is used. */
export interface GpuDevice {
  readonly limits: { readonly maxBufferSize: number; readonly maxStorageBufferBindingSize: number };
  readonly features: ReadonlySet<string>;
  readonly lost: Promise<{ readonly reason: string; readonly message: string }>;
  addEventListener(
    type: "uncapturederror",
    listener: (event: { readonly error: { readonly message: string } }) => void,
  ): void;
}

/** What went wrong on a GPU and would otherwise show as zeros in results: WebGPU reports it beside the calls that caused it. */
export interface GpuWatch {
  readonly isLost: boolean;
  /**
   * Throws `SdxsError` with code DEVICE_LOST once the device is lost, and once with BACKEND_FAILURE after each error
   * that WebGPU reports outside of calls, as for a buffer beyond the device's limits.
   */
  check(): void;
}

/** The error of `compile` for float16 on a GPU without it. */
export function noFloat16(cause?: unknown): SdxsError {
  return new SdxsError(
    "UNSUPPORTED_OPERATION",
    `compile: this GPU does not compute in float16 (WebGPU's "shader-f16"). Use precision "float32".`,
    { cause },
  );
}

const watches = new WeakMap<GpuDevice, GpuWatch>();

/** The watch of a device: one for each. */
export function watchDevice(device: GpuDevice): GpuWatch {
  const watch = watches.get(device) ?? newWatch(device);
  watches.set(device, watch);
  return watch;
}

function newWatch(device: GpuDevice): GpuWatch {
  let loss: string | undefined;
  let failure: string | undefined;
  void device.lost.then(({ reason, message }) => {
    loss = `${message || "no message"} (reason: ${reason || "unknown"})`;
  });
  device.addEventListener("uncapturederror", ({ error }) => {
    failure ??= error.message;
  });
  return {
    get isLost() {
      return loss !== undefined;
    },
    check() {
      if (loss !== undefined) {
        throw new SdxsError(
          "DEVICE_LOST",
          `The GPU device was lost, with all tensors on it: ${loss}. ` +
            `Dispose of what was compiled, make a new backend, compile again and restore the last saved state.`,
        );
      }
      if (failure !== undefined) {
        const message = failure;
        failure = undefined;
        throw new SdxsError(
          "BACKEND_FAILURE",
          `The GPU reported an error, so results computed since are wrong: ${message}`,
        );
      }
    },
  };
}
