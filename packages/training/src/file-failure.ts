import { SdxsError } from "@sdxs/tensor";

/** Throws FILE_FAILURE for a file or folder that `caller` cannot use. */
export function fileFailure(caller: string, path: string, cause: unknown): never {
  const reason = cause instanceof Error ? cause.message : String(cause);
  throw new SdxsError("FILE_FAILURE", `${caller}: cannot use ${path}: ${reason}`, { cause });
}
