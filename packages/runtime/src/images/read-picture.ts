import { readFile } from "node:fs/promises";
import { MalformedFileError, MissingPackageError, SdxsError, type HostTensor } from "@sdxs/tensor";
import { fromRgba } from "./pictures.js";

/**
 * A picture's file as a person sees it: JPEG, PNG, WebP and whatever else sharp reads, of any colours and bits. The camera's
 * orientation and colour profiles are followed, opacity is blended with white; of several pictures in a file the first is
 * taken. It needs the package sharp, which is installed apart.
 *
 * @param file its path, or its bytes
 * @returns [1, 3, height, width], red first, in [-1, 1]
 *
 * Throws an `SdxsError` of code MISSING_FILE, `MalformedFileError` for what is no picture or only part of one,
 * `MissingPackageError` without sharp.
 *
 * @example
 * const image = resizePicture(await readPicture("photo.jpg"), { width: 512, height: 512 });
 */
export async function readPicture(file: string | Uint8Array): Promise<HostTensor> {
  const { default: sharp } = await import("sharp").catch((cause: unknown): never => {
    throw new MissingPackageError("sharp", "Reading pictures' files", { cause });
  });
  const bytes = typeof file === "string" ? await contentOf(file) : file;
  try {
    const { data, info } = await sharp(bytes, { autoOrient: true })
      .toColourspace("srgb")
      .ensureAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    return fromRgba({ width: info.width, height: info.height, data });
  } catch (cause) {
    const lines = cause instanceof Error ? cause.message.split("\n") : [];
    throw new MalformedFileError(
      `readPicture: this is no picture of a kind that sharp reads, or only a part of one (${lines.at(-1) ?? "unknown"}). ` +
        `Check the file, or convert it to PNG.`,
      { cause },
    );
  }
}

function contentOf(path: string): Promise<Uint8Array> {
  return readFile(path).catch((cause: unknown): never => {
    throw new SdxsError("MISSING_FILE", `There is no file at ${path} that can be read. Check the path.`, { cause });
  });
}
