import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { folderWithModel, sdxs } from "./sdxs.test-support.js";

const { folder, model } = folderWithModel();
const out = join(folder, "int8.json");

it("writes ranges by which the other commands draw", async () => {
  const written = await sdxs(["calibrate", model, "--prompt", "red", "--prompt", "red red", "--out", out]);
  expect(written).toMatchObject({ exitCode: 0, out: [out] });
  const { unet, decoder } = JSON.parse(await readFile(out, "utf8")) as Record<"unet" | "decoder", object>;
  expect(Object.keys(unet)).toContain("unet.conv_in.weight");
  expect(Object.keys(decoder)).toContain("decoder.layers.0.weight");
  const picture = join(folder, "red.png");
  expect(await sdxs(["generate", model, "--prompt", "red", "--int8", out, "--out", picture])).toMatchObject({
    exitCode: 0,
  });
  expect(await sdxs(["bench", model, "--runs", "1", "--int8", out])).toMatchObject({ exitCode: 0 });
});

it.each([
  ["{}", "MALFORMED_FILE"],
  [`{ "unet": { "w": { "input": [1, 0], "output": [0, 1] } }, "decoder": {} }`, "MALFORMED_FILE"],
  ["[", "MALFORMED_FILE"],
])("refuses %s", async (text, code) => {
  const file = join(folder, "other.json");
  await writeFile(file, text);
  const { exitCode, notes } = await sdxs(["generate", model, "--prompt", "red", "--int8", file]);
  expect(exitCode).toBe(1);
  expect(notes[0]).toMatch(new RegExp(`^sdxs: ${code}: .*other\\.json`));
});

it("asks for prompts", async () => {
  const { exitCode, notes } = await sdxs(["calibrate", model]);
  expect(exitCode).toBe(2);
  expect(notes[0]).toContain("Give at least one --prompt");
});
