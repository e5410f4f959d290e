/** The artists' styles of the pack, as the manifest names them. */
export const emojiStyles = ["noto", "noto-v1", "fluent-flat", "fluent-3d", "high-contrast"] as const;
export type EmojiStyle = (typeof emojiStyles)[number];

/** The words that stand for a style in a caption. */
export const stylePhrases: Readonly<Record<EmojiStyle, string>> = {
  noto: "noto style",
  "noto-v1": "classic style",
  "fluent-flat": "flat style",
  "fluent-3d": "3d style",
  "high-contrast": "line style",
};
