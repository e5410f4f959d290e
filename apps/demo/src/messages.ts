import type { RgbaImage } from "@sdxs/runtime";
import type { BackendName } from "@sdxs/runtime/backends";

export type ModelName = "student" | "teacher";
/** The student's LoRAs, by their files. */
export type StyleName = "3d" | "line";

/** To a model's worker. It is opened once, and asked for pictures when it is ready. */
export type ToWorker =
  | { readonly type: "open"; readonly model: ModelName; readonly backend: BackendName | undefined }
  | { readonly type: "draw"; readonly request: Request }
  | { readonly type: "stop" };

/** What a picture is to show. */
export interface Request {
  readonly prompt: string;
  readonly seed: number;
  /** Lines to follow; the student's ControlNet takes them. */
  readonly sketch?: Sketch | undefined;
  /** A style that the student does not know by itself, but a LoRA of it. */
  readonly style?: StyleName | undefined;
}

export interface Sketch {
  /** 1 on lines, 0 elsewhere: [64, 64]. */
  readonly pixels: Uint8Array;
  /** Differs from that of any other sketch. */
  readonly version: number;
  /** How strongly it guides: 1 as trained. */
  readonly weight: number;
}

/** Whether two requests ask for the same picture. */
export const isSame = (a: Request, b: Request): boolean =>
  a.prompt === b.prompt &&
  a.seed === b.seed &&
  a.style === b.style &&
  a.sketch?.version === b.sketch?.version &&
  a.sketch?.weight === b.sketch?.weight;

/** What a model made of a request. */
export interface Picture extends Request {
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
