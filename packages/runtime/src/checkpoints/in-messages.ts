import { SdxsError } from "@sdxs/tensor";

/** Puts the file in question before the message of what `check` throws. */
export function inMessages<R>(source: string, check: () => R): R {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof SdxsError)) throw error;
    throw new SdxsError(error.code, `${source}: ${error.message}`, { cause: error });
  }
}
