import type { FetchOptions } from "@sdxs/runtime";
import { hubEnvironment } from "@sdxs/runtime/node";
import type { Terminal } from "./terminal.js";

/** How models are fetched: by the hub client's environment, with progress on the terminal, until it is interrupted. */
export async function fetching({ signal, note, progress }: Terminal): Promise<FetchOptions> {
  return {
    ...(await hubEnvironment()),
    signal,
    onProgress: ({ file, loaded, total, waiting }) => {
      if (waiting === undefined) progress?.(`${inMegabytes(loaded)} of ${inMegabytes(total)} MB`);
      else note(`sdxs: waiting for ${file}: ${waiting}`);
    },
  };
}

const inMegabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
