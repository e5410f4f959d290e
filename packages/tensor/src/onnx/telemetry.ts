import { SdxsError } from "../core/errors.js";

/** The variable that onnxruntime-node reads when it starts its first session, and not before. */
const VARIABLE = "ORT_DISABLE_TELEMETRY";

interface NodeProcess {
  readonly env: Record<string, string | undefined>;
  getBuiltinModule?(name: string): { readonly isMainThread: boolean };
}

/**
 * Switches off the telemetry of onnxruntime-node: on Linux and macOS, version 1.30 writes a device's id into the user's cache and
 * reports to a host of Microsoft from its first session on, unless the environment has ORT_DISABLE_TELEMETRY=1 by then. A value that
 * is set already stays. `onnxBackend` calls this; call it before a first session of your own.
 *
 * @throws SdxsError UNSUPPORTED_OPERATION in a worker thread whose environment is a copy, where it cannot be set for the process.
 *
 * @example
 * disableTelemetry();
 * const session = await InferenceSession.create("model.onnx");
 */
export function disableTelemetry(): void {
  const { process } = globalThis as { process?: NodeProcess };
  if (process === undefined || process.env[VARIABLE] !== undefined) return;
  if (process.getBuiltinModule?.("node:worker_threads").isMainThread === false) {
    throw new SdxsError(
      "UNSUPPORTED_OPERATION",
      `In a worker thread ${VARIABLE} cannot be set, and without it onnxruntime-node reports to its maker. ` +
        `Start the process with ${VARIABLE}=1, or import disableTelemetry and call it before the worker is made.`,
    );
  }
  process.env[VARIABLE] = "1";
}
