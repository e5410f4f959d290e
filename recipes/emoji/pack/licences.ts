import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { emojiStyles } from "../../emoji-styles.js";
import { stylePackages } from "./concepts.js";

/** The part of an icon set's `info.json` that names its author and licence. */
interface SetInformation {
  readonly name: string;
  readonly author: { readonly name: string; readonly url: string };
  readonly license: { readonly spdx: string; readonly url: string };
}

/** Writes the licence and copyright notice of every source, taken from the packages themselves. */
export async function writeLicences(file: URL, pack: string, pictureSize: number): Promise<void> {
  const sections = [
    "# Licences of the emoji pack",
    `The pictures in \`${pack}.bin\` are reduced renderings of the icon sets below; the names and keywords in ` +
      `\`${pack}.json\` come from the two data packages. Changes: rasterised to ${pictureSize}x${pictureSize} pixels, compressed, ` +
      "some names replaced by everyday ones.",
  ];
  for (const style of emojiStyles) {
    const { name, author, license } = readJson<SetInformation>(`${stylePackages[style]}/info.json`);
    const { version } = readJson<{ version: string }>(`${stylePackages[style]}/package.json`);
    sections.push(
      `## ${name} (style \`${style}\`)`,
      [
        `- Package: ${stylePackages[style]} ${version}`,
        `- Author: ${author.name}, <${author.url}>`,
        `- Licence: ${license.spdx}, <${license.url}>`,
        `- Copyright (c) ${author.name}. Text of the licence: see "${license.spdx}" below.`,
      ].join("\n"),
    );
  }
  for (const name of ["emojibase-data", "emojilib"]) {
    const { version, license } = readJson<{ version: string; license: string }>(`${name}/package.json`);
    sections.push(
      `## ${name} ${version} (names and keywords)`,
      `Licence: ${license}`,
      quote(readText(`${name}/LICENSE`)),
    );
  }
  // emojibase-data's licence file is the MIT text under its own copyright line; sharp's is the plain Apache text.
  const mitText = readText("emojibase-data/LICENSE").replace(/Copyright.*\n/, "Copyright (c) Microsoft Corporation.\n");
  sections.push("## MIT", quote(mitText), "## Apache-2.0", quote(readText("sharp/LICENSE")));
  await writeFile(file, `${sections.join("\n\n")}\n`);
}

function readText(path: string): string {
  return readFileSync(new URL(`node_modules/${path}`, import.meta.url), "utf8").trim();
}

function readJson<Value>(path: string): Value {
  return JSON.parse(readText(path)) as Value;
}

function quote(text: string): string {
  return `\`\`\`text\n${text}\n\`\`\``;
}
