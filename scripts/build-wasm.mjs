// Assembles the .wat files of packages/tensor/src into TypeScript beside them, so that no consumer needs an assembler or a
// second file.
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import wabt from "wabt";

const { parseWat } = await wabt();
for (const path of ["onnx/adamw", "weights/half"]) {
  const source = new URL(`../packages/tensor/src/${path}.wat`, import.meta.url);
  const target = new URL(`../packages/tensor/src/${path}-wasm.ts`, import.meta.url);
  const name = basename(path);
  const { buffer } = parseWat(`${name}.wat`, readFileSync(source, "utf8"), { simd: true }).toBinary({});
  const lines = Buffer.from(buffer)
    .toString("base64")
    .match(/.{1,100}/g)
    .map((line) => `  "${line}"`);
  writeFileSync(
    target,
    `// Assembled from ${name}.wat by \`npm run build:wasm\`; do not edit.\n` +
      `export const ${name.toUpperCase()}_WASM_BASE64 =\n${lines.join(" +\n")};\n`,
  );
  console.log(`${name}: ${buffer.length} bytes`);
}
