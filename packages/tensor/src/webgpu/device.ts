import { SdxsError } from "../core/errors.js";
import type { Webgpu, WebgpuDevice } from "../core/platform.js";
import type { DeviceTraits } from "./compile.js";

/** Multiplication of small matrices by a GPU's own units, which WebGPU offers as an experiment. */
const SUBGROUP_MATRIX_FEATURE = "chromium-experimental-subgroup-matrix";

const FEATURES = ["shader-f16", "subgroups", "timestamp-query", SUBGROUP_MATRIX_FEATURE];

const LIMITS = [
  ...(["maxBufferSize", "maxStorageBufferBindingSize", "maxStorageBuffersPerShaderStage"] as const),
  ...(["maxComputeWorkgroupStorageSize", "maxComputeInvocationsPerWorkgroup", "maxComputeWorkgroupSizeX"] as const),
];

/** Shared memory of the largest GEMM tiles. */
const TILE_BYTES = 44 * 1024;

/** A combination of types and sizes of subgroup matrices. */
interface MatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** What is used of an adapter's information beyond what TypeScript knows. */
interface AdapterInfo {
  readonly vendor?: string;
  readonly architecture?: string;
  readonly device?: string;
  readonly description?: string;
  readonly isFallbackAdapter?: boolean;
  readonly subgroupMinSize?: number;
  readonly subgroupMaxSize?: number;
  readonly subgroupMatrixConfigs?: readonly MatrixConfig[];
}

/** What the package webgpu's `create` is asked for: float16 on NVIDIA's GPUs, and experiments, subgroup matrices among them. */
export const DAWN_FEATURES = "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia";

/**
 * A device with all that the kernels can use of the adapter: its largest buffers, float16 and, where there are any, subgroup
 * matrices.
 *
 * In Node, `gpu` comes from the package webgpu, which offers some of that to those who ask by `DAWN_FEATURES`.
 *
 * @throws SdxsError with code BACKEND_FAILURE where there is no adapter.
 *
 * @example
 * import { create } from "webgpu";
 * const backend = webgpuBackend({ device: await requestGpuDevice(create([DAWN_FEATURES])) });
 */
export async function requestGpuDevice(gpu: Webgpu): Promise<WebgpuDevice> {
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    throw new SdxsError(
      "BACKEND_FAILURE",
      "WebGPU found no adapter. Install the GPU's driver (and libvulkan1 on Linux), or choose another backend.",
    );
  }
  const limits = adapter.limits as unknown as Readonly<Record<string, number>>;
  const device = await adapter.requestDevice({
    requiredFeatures: FEATURES.filter((feature) => adapter.features.has(feature)) as GPUFeatureName[],
    requiredLimits: Object.fromEntries(LIMITS.map((name) => [name, limits[name] ?? 0])),
  });
  origins.set(device, { gpu, info: adapter.info });
  return device;
}

/**
 * Where a device is from. Dawn tells an adapter's subgroup matrices, not a device's, and ends the process where the garbage collector
 * takes its `gpu` before the device.
 */
const origins = new WeakMap<GPUDevice, { readonly gpu: unknown; readonly info: AdapterInfo }>();

/** Adapters that compute on the processor, or not at all. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|software|basic render|null-backend/i;

/** The name of a device's adapter, as far as it is told; undefined where that is no hardware, or has no name. */
export function hardwareName(device: GPUDevice): string | undefined {
  const info: AdapterInfo =
    origins.get(device)?.info ?? (device as { readonly adapterInfo?: AdapterInfo }).adapterInfo ?? {};
  const name = [info.vendor, info.architecture, info.device, info.description].filter(Boolean).join(" ");
  return name === "" || info.isFallbackAdapter === true || SOFTWARE.test(name) ? undefined : name;
}

/** What kernels may use of a device. */
export function traitsOf(device: GPUDevice): DeviceTraits {
  const { limits, features } = device;
  const names = features as unknown as ReadonlySet<string>;
  const hasFloat16 = names.has("shader-f16");
  const info = origins.get(device)?.info ?? {};
  const isKnownSize = info.subgroupMinSize === 32 && info.subgroupMaxSize === 32;
  const hasSubgroupMatrices =
    hasFloat16 &&
    names.has(SUBGROUP_MATRIX_FEATURE) &&
    isKnownSize &&
    limits.maxComputeWorkgroupStorageSize >= TILE_BYTES &&
    (info.subgroupMatrixConfigs ?? []).some(
      ({ componentType, resultComponentType, M, N, K }) =>
        componentType === "f16" && resultComponentType === "f32" && M === 16 && N === 16 && K === 16,
    );
  return {
    hasFloat16,
    hasSubgroupMatrices,
    maxThreads: limits.maxComputeInvocationsPerWorkgroup,
    maxBuffersPerKernel: limits.maxStorageBuffersPerShaderStage,
    maxTensorBytes: Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize),
    maxBufferBytes: limits.maxBufferSize,
  };
}
