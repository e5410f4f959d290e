import { SdxsError, nextTurn, type Signal } from "@sdxs/tensor";
import type { PictureStream, Pipeline, StreamRequest, StreamedImages } from "./pipeline-types.js";

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
