import { toPng } from "@sdxs/runtime";
import type { Picture } from "./messages.js";

/** Saves a picture where the browser keeps downloads, as "a-red-apple-seed-1.png". */
export async function savePng({ image, prompt, seed }: Picture): Promise<string> {
  const words = prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ["picture"];
  const name = `${words.join("-")}-seed-${seed}.png`;
  const address = URL.createObjectURL(new Blob([await toPng(image)], { type: "image/png" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  URL.revokeObjectURL(address);
  return name;
}
