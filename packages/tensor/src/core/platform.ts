/**
 * The instances of a global class, as "AbortSignal", where the consumer's `lib` or `types` declare it; else `Otherwise`, so that
 * declarations compile without the DOM's and without Node's types.
 */
export type PlatformClass<Name extends string, Otherwise> = typeof globalThis extends {
  readonly [N in Name]: { readonly prototype: infer Instance };
}
  ? Instance
  : Otherwise;

/** An `AbortSignal`. */
export type Signal = PlatformClass<"AbortSignal", { readonly aborted: boolean; readonly reason: unknown }>;

/** A WebGPU device, by `requestGpuDevice` or any other: a `GPUDevice`. */
export type WebgpuDevice = PlatformClass<
  "GPUDevice",
  { readonly limits: object; readonly features: object; readonly queue: object }
>;

/** A buffer of a WebGPU device: a `GPUBuffer`. */
export type WebgpuBuffer = PlatformClass<"GPUBuffer", { readonly size: number }>;

/** A source of WebGPU devices, as `navigator.gpu` or the result of `create` of the package webgpu: the `requestAdapter` of a `GPU`. */
export type Webgpu = Pick<PlatformClass<"GPU", { requestAdapter(): Promise<object | null> }>, "requestAdapter">;

/** A `URL`. */
export type Address = PlatformClass<"URL", { readonly href: string }>;
