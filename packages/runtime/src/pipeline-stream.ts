import { SdxsError, nextTurn, type Signal } from "@sdxs/tensor";
import type { GenerateOptions, GeneratedImages, Pipeline } from "./pipeline.js";

/** What one request of a stream may say; the stream has the signal. */
export type StreamRequest = Omit<GenerateOptions, "signal">;

/** Pictures of one request. */
export interface StreamedImages extends GeneratedImages {
  readonly prompts: string | readonly string[];
  readonly options: StreamRequest;
}

/** Pictures of the newest requests, one after the other, for one loop. Leaving the loop ends it. */
export interface PictureStream extends AsyncIterableIterator<StreamedImages> {
  /** Asks for pictures in place of all that was asked for before and is not yet being drawn. */
  request(prompts: string | readonly string[], options?: StreamRequest): void;
  /** Lets the loop end once the last request is drawn. */
  close(): void;
}

/** See `Pipeline.stream`. */
export function pictureStream(generate: Pipeline["generate"], signal?: Signal): PictureStream {
  let newest: { readonly prompts: string | readonly string[]; readonly options: StreamRequest } | undefined;
  let closed = false;
  let wake = (): void => undefined;

  async function* draw(): AsyncGenerator<StreamedImages, undefined> {
    const onAbort = (): void => wake();
    signal?.addEventListener("abort", onAbort);
    try {
      for (;;) {
        while (newest === undefined && !closed && !signal?.aborted) {
          await new Promise<void>((resolve) => (wake = resolve));
        }
        // Where a picture is computed without a pause, as by WebAssembly, requests that came meanwhile still wait for their turn.
        await nextTurn();
        if (signal?.aborted) throw new SdxsError("ABORTED", "stream: aborted.", { cause: signal.reason });
        if (newest === undefined) return;
        const { prompts, options } = newest;
        newest = undefined;
        yield { prompts, options, ...(await generate(prompts, { ...options, ...(signal && { signal }) })) };
      }
    } finally {
      closed = true;
      signal?.removeEventListener("abort", onAbort);
    }
  }

  return Object.assign(draw(), {
    request(prompts: string | readonly string[], options: StreamRequest = {}): void {
      if (closed) throw new SdxsError("DISPOSED", "stream: this stream has ended. Begin another one.");
      newest = { prompts, options };
      wake();
    },
    close(): void {
      closed = true;
      wake();
    },
  });
}
