// Assembles packages/tensor/src/onnx/adamw.wat into adamw-wasm.ts, so that no consumer needs an assembler or a second file.
import { readFileSync, writeFileSync } from "node:fs";
import wabt from "wabt";

const source = new URL("../packages/tensor/src/onnx/adamw.wat", import.meta.url);
const target = new URL("../packages/tensor/src/onnx/adamw-wasm.ts", import.meta.url);
const { parseWat } = await wabt();
const module = parseWat("adamw.wat", readFileSync(source, "utf8"), { simd: true });
const { buffer } = module.toBinary({});
const lines =
  Buffer.from(buffer)
    .toString("base64")
    .match(/.{1,100}/g) ?? [];
writeFileSync(
  target,
  `// Assembled from adamw.wat by \`npm run build:wasm\`; do not edit.\nexport const ADAMW_WASM_BASE64 =\n${lines.map((line) => `  "${line}"`).join(" +\n")};\n`,
);
console.log(`${buffer.length} bytes`);
