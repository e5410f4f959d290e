import { describe, expect, it } from "vitest";
import { documentTables } from "@sdxs/tensor/testing";
import { loadTokenizer, type TokenizerConfig } from "./tokenizer.js";

const rows = await documentTables(
  new URL("../../../../docs/compatibility.md", import.meta.url),
  "Tokenizers and text encoders",
);
const settings = rows.filter(([, written = ""]) => written.startsWith("{"));
const tokens = ["!", "a</w>", "<</w>", "a", "></w>", "<|startoftext|>", "<|endoftext|>"];
const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
const idsWith = (tokenizerConfig: TokenizerConfig) =>
  Array.from(loadTokenizer({ vocab, merges: [], tokenizerConfig }).encode("a <a> A", 8).ids);

describe("docs/compatibility.md says of tokenizers", () => {
  it.each(settings)("%s (%s): %s", (_, json = "", here = "") => {
    const config = JSON.parse(json) as TokenizerConfig;
    if (here === "refused by name") {
      const [name] = Object.keys(config);
      expect(() => idsWith(config)).toThrow(
        expect.objectContaining({ code: "UNSUPPORTED_CONFIG", message: expect.stringContaining(`"${name}"`) }),
      );
    } else if (here.startsWith("no effect")) expect(idsWith(config)).toEqual(idsWith({}));
    else expect(idsWith(config)).toHaveLength(8);
  });

  it("something of each kind", () => {
    expect(new Set(settings.map(([, , here = ""]) => here.split(" ")[0]))).toEqual(new Set(["equal", "no", "refused"]));
  });
});
