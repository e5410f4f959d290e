import type { RgbaImage } from "@sdxs/runtime";
import type { BackendName } from "@sdxs/runtime/backends";

export type ModelName = "student" | "teacher";

/** To a model's worker. It is opened once, and asked for pictures when it is ready. */
export type ToWorker =
  | { readonly type: "open"; readonly model: ModelName; readonly backend: BackendName | undefined }
  | { readonly type: "draw"; readonly prompt: string; readonly seed: number }
  | { readonly type: "stop" };

/** What a model made of a prompt and a seed. */
export interface Picture {
  readonly prompt: string;
  readonly seed: number;
  readonly image: RgbaImage;
  /** From the prompt to the pixels. */
  readonly ms: number;
}

/** From a model's worker. */
export type FromWorker =
  | { readonly type: "progress"; readonly loaded: number; readonly total: number }
  | { readonly type: "ready"; readonly backend: BackendName; readonly reason: string }
  | { readonly type: "step"; readonly step: number }
  | ({ readonly type: "picture" } & Picture)
  | { readonly type: "failed"; readonly code: string; readonly message: string };
