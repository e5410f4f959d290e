// `npm run release:fold [-- FOLDER]`: makes of all changesets one for each package, with the words of all that name it.
// Edit the result until it reads as one entry.
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./commands.mjs";

const bumps = ["patch", "minor", "major"];
const folder = process.argv[2] ?? join(root, ".changeset");
const files = readdirSync(folder).filter((name) => name.endsWith(".md"));

/** By package: the highest bump that a changeset asks for, and their words in the order of the files' names. */
const packages = new Map();
// What was folded before comes first.
const isFolded = (name) => /^sdxs-[a-z-]+\.md$/.test(name);
for (const file of [...files.filter(isFolded).sort(), ...files.filter((name) => !isFolded(name)).sort()]) {
  const text = readFileSync(join(folder, file), "utf8").replaceAll("\r\n", "\n");
  const [, head, words] = /^---\n([^]*?)---\n([^]*)$/.exec(text) ?? [];
  if (head === undefined)
    throw new Error(`${file} is no changeset: it does not begin with the packages between two "---".`);
  for (const [, name, bump] of head.matchAll(/^"@sdxs\/([a-z-]+)": (patch|minor|major)$/gm)) {
    const entry = packages.get(name) ?? { bump, words: [] };
    if (bumps.indexOf(bump) > bumps.indexOf(entry.bump)) entry.bump = bump;
    packages.set(name, { bump: entry.bump, words: [...entry.words, words.trim()] });
  }
}

for (const file of files) rmSync(join(folder, file));
for (const [name, { bump, words }] of packages) {
  const text = `---\n"@sdxs/${name}": ${bump}\n---\n\n${words.join("\n\n")}\n`;
  writeFileSync(join(folder, `sdxs-${name}.md`), text);
}
