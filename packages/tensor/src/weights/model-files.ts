import { parseJson } from "../core/json.js";
import type { SafetensorsReader } from "./safetensors.js";

/** A file whose tensors are read one at a time. Close it. */
export interface SafetensorsFile extends SafetensorsReader {
  close(): Promise<void>;
}

/** The files of a model or a pipeline by their names, on disk (`diskFiles` of `@sdxs/tensor/node`) or on a server. */
export interface ModelFiles {
  /** Where a file is, for messages; without a name, where all are. */
  location(name?: string): string;
  /** Those of `names` that exist. A source that can list its files may return all of them. */
  list(names: readonly string[]): Promise<readonly string[]>;
  /**
   * Errors of this and the next are SdxsErrors that name the file: MISSING_FILE, FILE_FAILURE, MALFORMED_FILE, and ABORTED
   * where reading can be stopped.
   */
  readText(name: string): Promise<string>;
  /** Reads the header now, each tensor by `read`. */
  openSafetensors(name: string): Promise<SafetensorsFile>;
  /** Those of a folder in it, which need not exist. */
  folder(name: string): ModelFiles;
}

/** Reads a JSON file, as Python writes it; see `parseJson`. Throws `MalformedFileError` beside what `readText` throws. */
export async function readJson(files: Pick<ModelFiles, "location" | "readText">, name: string): Promise<unknown> {
  return parseJson(await files.readText(name), files.location(name));
}
