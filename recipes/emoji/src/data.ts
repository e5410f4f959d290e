import { fileURLToPath } from "node:url";
import { readEmojiPack, type EmojiPack } from "../../emoji-pack.js";

/** The recipe's data, seen from `src` and from the built `dist`. */
export const dataFolder = fileURLToPath(new URL("../data", import.meta.url));

/** The recipe's own pack. Throws as `readEmojiPack`. */
export function readOwnPack(): Promise<EmojiPack> {
  return readEmojiPack(dataFolder, "emoji-64");
}
