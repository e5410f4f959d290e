import type { HostTensor } from "@sdxs/tensor";
import { takeRows } from "@sdxs/training";
import { concatRows } from "./rows.js";
import { contactSheet } from "./contact-sheet.js";

/** A PNG of pictures: a row for each prompt, which stands under its first one, and a column for each kind of picture. */
export function pictureSheet(
  prompts: readonly string[],
  columns: readonly (readonly [label: string, images: HostTensor])[],
): Promise<Buffer> {
  return contactSheet(
    concatRows(prompts.flatMap((_, row) => columns.map(([, images]) => takeRows(images, [row])))),
    prompts.flatMap((prompt) => columns.map(([label], column) => (column === 0 ? `${label}: ${prompt}` : label))),
    { columns: columns.length },
  );
}
