import type { Lora, LoraComponent } from "@sdxs/lora";
import { HostTensor, SdxsError, type ErrorCode } from "@sdxs/tensor";
import { pictureStream } from "./pipeline-stream.js";
import type { GenerateOptions, GeneratedImages, Pipeline } from "./pipeline-types.js";
import type { FetchProgress } from "../checkpoints/web-files.js";

/** What is used of a worker and, within it, of its global scope: that of MessagePort, too. */
export interface WorkerPort {
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
  addEventListener(type: "message", listener: (event: { readonly data: unknown }) => void): void;
  addEventListener(type: "error", listener: (event: unknown) => void): void;
}

/** LoRAs are sent once, and named by a number from then on. */
type LoraReference = { readonly number: number; readonly lora?: Lora<HostTensor> };
type PortableLora = Readonly<Partial<Record<LoraComponent, LoraReference>>> & { readonly weight: number };
interface PortableOptions extends Omit<GenerateOptions, "signal" | "onStep" | "loras"> {
  readonly loras: readonly PortableLora[];
}

/** To the worker. */
type Call =
  | { readonly call: number; readonly prompts: string | readonly string[]; readonly options: PortableOptions }
  | { readonly call: number; readonly what: "abort" | "dispose" };

/** From the worker. */
type Answer =
  | { readonly call: number; readonly result: GeneratedImages | undefined }
  | { readonly call: number; readonly error: { readonly code: ErrorCode | undefined; readonly message: string } }
  | { readonly call: number; readonly step: readonly [step: number, steps: number] }
  | { readonly progress: FetchProgress };

/**
 * In a worker: lets the page draw with a pipeline there, so that the page never stands still. The pipeline is opened at once;
 * `report` hands a download's progress on to `workerPipeline`.
 *
 * @example
 * servePipeline(async (report) => {
 *   const { components } = await fetchPipeline("owner/sdxs-512", { only, onProgress: report });
 *   return createPipeline({ components, backend: () => onnxBackend({ ort, executionProviders: ["webgpu"] }) });
 * });
 */
export function servePipeline(
  open: (report: (progress: FetchProgress) => void) => Promise<Pipeline>,
  port: WorkerPort = globalThis as unknown as WorkerPort,
): void {
  const send = (answer: Answer, transfer: ArrayBuffer[] = []): void => port.postMessage(answer, transfer);
  const pipeline = open((progress) => send({ progress }));
  pipeline.catch(() => undefined); // each call fails with it
  const running = new Map<number, AbortController>();
  const loras = new Map<number, Lora<HostTensor>>();
  const loraOf = ({ number, lora }: LoraReference): Lora<HostTensor> => {
    if (lora !== undefined) loras.set(number, lora);
    return loras.get(number)!;
  };

  const answer = async (message: Call): Promise<void> => {
    const { call } = message;
    if ("what" in message) {
      if (message.what === "abort") running.get(call)?.abort();
      else {
        await (await pipeline).dispose();
        send({ call, result: undefined });
      }
      return;
    }
    const controller = new AbortController();
    running.set(call, controller);
    try {
      const result = await (
        await pipeline
      ).generate(message.prompts, {
        ...message.options,
        loras: message.options.loras.map((lora) => mapParts(lora, loraOf)),
        signal: controller.signal,
        onStep: (...step) => send({ call, step }),
      });
      send({ call, result }, [result.images.data.buffer]);
    } finally {
      running.delete(call);
    }
  };
  port.addEventListener("message", ({ data }) => {
    const message = revived(data) as Call;
    answer(message).catch((error: unknown) => {
      const { code, message: text } = error as Partial<SdxsError>;
      send({ call: message.call, error: { code, message: text ?? String(error) } });
    });
  });
}

/**
 * On the page: the pipeline that `servePipeline` opens in a worker, with the same interface. After `dispose` the worker may be
 * terminated.
 *
 * @param onProgress what the worker reports while it opens the pipeline
 * @throws its calls: what the pipeline's throw, with the same codes; BACKEND_FAILURE where the worker itself fails.
 *
 * @example
 * const worker = new Worker(new URL("../pipeline.worker.js", import.meta.url), { type: "module" });
 * const pipeline = workerPipeline(worker, ({ loaded, total }) => (bar.value = loaded / total));
 * const { images } = await pipeline.generate("a red apple");
 */
export function workerPipeline(worker: WorkerPort, onProgress?: (progress: FetchProgress) => void): Pipeline {
  interface Pending {
    readonly resolve: (result: GeneratedImages | undefined) => void;
    readonly reject: (error: unknown) => void;
    readonly onStep: GenerateOptions["onStep"] | undefined;
  }
  const pending = new Map<number, Pending>();
  let calls = 0;
  worker.addEventListener("message", ({ data }) => {
    const answer = revived(data) as Answer;
    if ("progress" in answer) {
      onProgress?.(answer.progress);
      return;
    }
    const waiting = pending.get(answer.call);
    if ("step" in answer) {
      waiting?.onStep?.(...answer.step);
      return;
    }
    pending.delete(answer.call);
    if ("result" in answer) waiting?.resolve(answer.result);
    else {
      const { code, message } = answer.error;
      waiting?.reject(code === undefined ? new Error(message) : new SdxsError(code, message));
    }
  });
  worker.addEventListener("error", (event) => {
    const { message = "no message" } = event as Partial<ErrorEvent>;
    for (const { reject } of pending.values())
      reject(new SdxsError("BACKEND_FAILURE", `The worker failed: ${message}`));
    pending.clear();
  });
  const ask = (message: (call: number) => Call, onStep?: GenerateOptions["onStep"]) => {
    const call = calls++;
    const answer = new Promise<GeneratedImages | undefined>((resolve, reject) => {
      pending.set(call, { resolve, reject, onStep });
    });
    worker.postMessage(message(call), []);
    return { call, answer };
  };

  const numbers = new WeakMap<object, number>();
  let loras = 0;
  const referenceTo = (lora: Lora<HostTensor>): LoraReference => {
    const known = numbers.get(lora.params);
    if (known !== undefined) return { number: known };
    numbers.set(lora.params, loras);
    return { number: loras++, lora };
  };

  const generate: Pipeline["generate"] = async (prompts, { signal, onStep, loras: given = [], ...options } = {}) => {
    if (signal?.aborted) throw new SdxsError("ABORTED", "generate: aborted.", { cause: signal.reason });
    const portable = given.map((lora) => mapParts(lora, referenceTo));
    const { call, answer } = ask(
      (number) => ({ call: number, prompts, options: { ...options, loras: portable } }),
      onStep,
    );
    const abort = (): void => worker.postMessage({ call, what: "abort" } satisfies Call, []);
    signal?.addEventListener("abort", abort);
    try {
      return (await answer)!;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  };
  return {
    generate,
    stream: ({ signal } = {}) => pictureStream(generate, signal),
    dispose: async () => {
      await ask((call) => ({ call, what: "dispose" })).answer;
    },
  };
}

/** Something of each network's LoRA, and the weight. */
function mapParts<A, B>(
  { weight = 1, ...parts }: Readonly<Partial<Record<LoraComponent, A>>> & { readonly weight?: number },
  map: (part: A) => B,
): Partial<Record<LoraComponent, B>> & { readonly weight: number } {
  const mapped = Object.entries<A>(parts as Record<string, A>).map(([name, part]) => [name, map(part)]);
  return { ...(Object.fromEntries(mapped) as Partial<Record<LoraComponent, B>>), weight };
}

/** Host tensors arrive as plain objects: gives them back their class, however deep they lie. */
function revived(value: unknown): unknown {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  if (Array.isArray(value)) return value.map(revived);
  if ("shape" in value && "data" in value && ArrayBuffer.isView(value.data)) {
    const { shape, data } = value as HostTensor;
    return new HostTensor(shape, data);
  }
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, revived(inner)]));
}
