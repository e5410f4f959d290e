import { describe, expect, it } from "vitest";
import { HostTensor } from "@sdxs/tensor";
import { documentTables } from "@sdxs/tensor/testing";
import { readLora } from "./index.js";

const rows = await documentTables(new URL("../../../docs/compatibility.md", import.meta.url), "LoRA files");
const [configs, entries] = [true, false].map((isConfig) =>
  rows.filter(([, written = ""]) => written.startsWith("{") === isConfig),
);

const network = { "a.to_q.weight": { shape: [3, 2] } };
const down = HostTensor.filled([2, 2], 1);
const up = HostTensor.filled([3, 2], 1);
const lora = { "base_model.model.a.to_q.lora_A.weight": down, "base_model.model.a.to_q.lora_B.weight": up };

/** What a caller comes to know: an error's code and message, or the warnings. */
function read(file: Parameters<typeof readLora>[0]): { readonly refused: boolean; readonly said: string } {
  try {
    return {
      refused: false,
      said: readLora(file, { unet: network })
        .warnings.map(({ message }) => message)
        .join(),
    };
  } catch (error) {
    return { refused: true, said: (error as Error).message };
  }
}

describe("docs/compatibility.md says of LoRA files", () => {
  it.each(entries!)("%s (%s): %s", (_, entry = "", here) => {
    const isKohya = entry.startsWith("lora_unet_");
    const name = entry.replace("LAYER", isKohya ? "a_to_q" : "a.to_q");
    const kohya = { "lora_unet_a_to_q.lora_down.weight": down, "lora_unet_a_to_q.lora_up.weight": up };
    const { refused, said } = read({
      tensors: { ...(isKohya ? kohya : lora), [name]: name.endsWith(".alpha") ? HostTensor.scalar(1) : up },
      adapterConfig: {},
    });
    expect(refused).toBe(here === "refused by name");
    expect(said.includes(name)).toBe(here !== "equal");
  });

  it.each(configs!)("%s (%s): %s", (_, json = "", here) => {
    const { refused, said } = read({ tensors: lora, adapterConfig: JSON.parse(json) as object });
    expect(refused).toBe(here === "refused by name");
    if (refused) expect(said).toContain(`"${Object.keys(JSON.parse(json) as object)[0]}"`);
    else expect(said).toBe("");
  });
});
