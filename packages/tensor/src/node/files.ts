import { open, readFile, readdir, rename, rm, type FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { MalformedFileError, SdxsError } from "../core/errors.js";
import type { HostTensor } from "../core/host-tensor.js";
import type { TensorMap } from "../core/ops.js";
import { readJson, type ModelFiles, type SafetensorsFile } from "../weights/model-files.js";
import { openSafetensors, safetensorsChunks, type WriteSafetensorsOptions } from "../weights/safetensors.js";

/** The most that one call reads, below the 2 GB that systems allow: chosen. */
const MAX_READ_BYTES = 2 ** 30;

/**
 * Opens a safetensors file. The header is read now, each tensor by `read`.
 *
 * @throws SdxsError with code MISSING_FILE or FILE_FAILURE, or MalformedFileError; the message names the path.
 *
 * @example
 * const file = await openSafetensorsFile("unet/diffusion_pytorch_model.safetensors");
 * try {
 *   for (const name of file.names) use(name, await file.read(name));
 * } finally {
 *   await file.close();
 * }
 */
export async function openSafetensorsFile(path: string): Promise<SafetensorsFile> {
  const handle = await open(path, "r").catch((cause: unknown) => fail("read", path, cause));
  try {
    const { size } = await handle.stat();
    const reader = await openSafetensors({
      size,
      read: (offset, _length, into) => readRange(handle, offset, into),
    });
    return {
      ...reader,
      read: (name) => reader.read(name).catch((cause: unknown) => fail("read", path, cause)),
      close: () => handle.close(),
    };
  } catch (cause) {
    await handle.close();
    return fail("read", path, cause);
  }
}

/** Reads all tensors of a safetensors file; see `readSafetensors` for the types. */
export async function readSafetensorsFile(path: string): Promise<{
  readonly tensors: Record<string, HostTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}> {
  const file = await openSafetensorsFile(path);
  try {
    const entries: [string, HostTensor][] = [];
    for (const name of file.names) entries.push([name, await file.read(name)]);
    return { tensors: Object.fromEntries(entries), metadata: file.metadata };
  } finally {
    await file.close();
  }
}

/**
 * Writes a safetensors file atomically: whenever the process or the machine stops, `path` holds either its former content
 * or all of the new tensors: the bytes go to a temporary file beside it, reach the disk, and take its name.
 * One tensor at a time is encoded. Temporary files that a killed process left beside `path` are removed.
 *
 * @throws SdxsError with code FILE_FAILURE, as where the disk is full; `path` is then unchanged.
 *
 * @example
 * await writeSafetensorsFile("student.safetensors", weights, { dtype: "F16" });
 */
export async function writeSafetensorsFile(
  path: string,
  tensors: TensorMap<HostTensor>,
  options: WriteSafetensorsOptions = {},
): Promise<void> {
  await replaceFile(path, safetensorsChunks(tensors, options));
}

/** Replaces a file's content as a whole or not at all; see `writeSafetensorsFile`. Texts are written as UTF-8. */
export async function replaceFile(path: string, chunks: Iterable<Uint8Array | string>): Promise<void> {
  await replaceFiles([{ path, chunks }]);
}

/** The content of a file, in pieces that are made on demand. */
export interface FileContent {
  readonly path: string;
  readonly chunks: Iterable<Uint8Array | string>;
}

/**
 * Replaces several files: none takes its name before the bytes of all have reached the disk. A failure until then leaves
 * every file unchanged; a process killed while they take their names, in the order given, leaves the later ones old.
 */
export async function replaceFiles(files: Iterable<FileContent>): Promise<void> {
  const finished: { readonly path: string; readonly temporary: string }[] = [];
  try {
    for (const { path, chunks } of files) {
      const temporary = temporaryPath(path);
      writing.add(temporary);
      finished.push({ path, temporary });
      await writeTemporary(path, temporary, chunks).catch((cause: unknown) => fail("write", path, cause));
    }
    for (const { path, temporary } of finished) {
      await rename(temporary, path).catch((cause: unknown) => fail("write", path, cause));
    }
    for (const folder of new Set(finished.map(({ path }) => dirname(path)))) await syncDirectory(folder);
  } finally {
    for (const { temporary } of finished) {
      await rm(temporary, { force: true }).catch(() => undefined); // the first failure is the one to report
      writing.delete(temporary);
    }
  }
}

async function writeTemporary(path: string, temporary: string, chunks: Iterable<Uint8Array | string>): Promise<void> {
  await removeLeftovers(path);
  const handle = await open(temporary, "wx");
  try {
    for (const chunk of chunks) await writeAll(handle, chunk);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Reads a JSON file.
 *
 * @throws SdxsError with code MISSING_FILE or FILE_FAILURE, or MalformedFileError; the message names the path.
 */
export async function readJsonFile(path: string): Promise<unknown> {
  return readJson(diskFiles(dirname(path)), basename(path));
}

/** The files of a folder. Listing them throws MISSING_FILE where there is no such folder. */
export function diskFiles(folder: string): ModelFiles {
  const location = (name?: string): string => (name === undefined ? folder : join(folder, name));
  return {
    location,
    list: () =>
      readdir(folder).catch((cause: unknown): never => {
        const code = systemCode(cause);
        if (code !== "ENOENT" && code !== "ENOTDIR") return fail("read", folder, cause);
        throw new SdxsError("MISSING_FILE", `There is no folder at ${folder}. Check the path.`, { cause });
      }),
    readText: (name) => readFile(location(name), "utf8").catch((cause: unknown) => fail("read", location(name), cause)),
    openSafetensors: (name) => openSafetensorsFile(location(name)),
    folder: (name) => diskFiles(location(name)),
  };
}

/** Temporary files that this process is writing now. */
const writing = new Set<string>();
let written = 0;

/** ".NAME.PROCESS.COUNTER.partial": the process's number shows whether its writer may still run. */
function temporaryPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.${process.pid}.${++written}.partial`);
}

async function removeLeftovers(path: string): Promise<void> {
  const prefix = `.${basename(path)}.`;
  for (const name of await readdir(dirname(path))) {
    const owner = name.startsWith(prefix) && /^(\d+)\.\d+\.partial$/.exec(name.slice(prefix.length))?.[1];
    const leftover = join(dirname(path), name);
    if (!owner || writing.has(leftover)) continue;
    if (Number(owner) === process.pid || !isRunning(Number(owner))) await rm(leftover, { force: true });
  }
}

function isRunning(processId: number): boolean {
  try {
    return process.kill(processId, 0); // signal 0 only asks
  } catch (error) {
    return systemCode(error) === "EPERM";
  }
}

async function readRange(handle: FileHandle, offset: number, into: Uint8Array): Promise<Uint8Array> {
  let done = 0;
  while (done < into.length) {
    const length = Math.min(into.length - done, MAX_READ_BYTES);
    const { bytesRead } = await handle.read(into, done, length, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return into.subarray(0, done);
}

async function writeAll(handle: FileHandle, chunk: Uint8Array | string): Promise<void> {
  const bytes = typeof chunk === "string" ? new TextEncoder().encode(chunk) : chunk;
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done);
    done += bytesWritten;
  }
}

/** Makes a rename last. Windows cannot open directories and needs no such call. */
async function syncDirectory(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function fail(verb: "read" | "write", path: string, cause: unknown): never {
  if (cause instanceof MalformedFileError) throw new MalformedFileError(`${path}: ${cause.message}`, { cause });
  if (cause instanceof SdxsError) throw new SdxsError(cause.code, `${path}: ${cause.message}`, { cause });
  const code = systemCode(cause);
  if (code === "ENOENT") {
    const message =
      verb === "read"
        ? `There is no file at ${path}. Check the path.`
        : `Cannot write ${path}: the folder ${dirname(path)} does not exist. Create it first.`;
    throw new SdxsError("MISSING_FILE", message, { cause });
  }
  const reason =
    code === "ENOSPC"
      ? `the disk is full; the file is as it was. Free some space and write again.`
      : cause instanceof Error
        ? cause.message
        : String(cause);
  throw new SdxsError("FILE_FAILURE", `Cannot ${verb} ${path}: ${reason}`, { cause });
}

function systemCode(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
