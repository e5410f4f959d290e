import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { afterAll, expect, it } from "vitest";
import { sizeOf } from "@sdxs/tensor";
import { replaceFile } from "@sdxs/tensor/node";
import { parseUNetConfig, unetParameters } from "@sdxs/tiny-unet";

const folder = mkdtempSync(join(tmpdir(), "sdxs-memory-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** A U-Net of 84 M parameters: a quarter of SDXS-512. */
const config = {
  _class_name: "UNet2DConditionModel",
  block_out_channels: [160, 320, 640],
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
  mid_block_type: null,
  up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
  layers_per_block: 1,
  attention_head_dim: [5, 10, 20],
  cross_attention_dim: 1024,
};

it("loadModel needs less than 1.2 times the memory of the float32 weights, from a float16 file", async () => {
  const shapes = Object.entries(unetParameters(parseUNetConfig(config))).map(([name, { shape }]) => ({ name, shape }));
  const elements = shapes.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  expect(elements).toBeGreaterThan(70e6);
  await writeFile(join(folder, "config.json"), JSON.stringify(config));
  await replaceFile(join(folder, "diffusion_pytorch_model.safetensors"), halfPrecisionFile(shapes));

  // A process of its own, since this one's memory is the test runner's too.
  const entry = fileURLToPath(new URL("./model-folder.ts", import.meta.url));
  const tsconfig = fileURLToPath(new URL("../../../../tsconfig.json", import.meta.url));
  await build({
    stdin: {
      contents: `import { loadModel } from ${JSON.stringify(entry)};
        const peak = () => process.resourceUsage().maxRSS * 1024;
        const before = peak();
        const { params } = await loadModel(process.argv[2]);
        const bytes = Object.values(params).reduce((sum, { data }) => sum + data.byteLength, 0);
        console.log(JSON.stringify({ bytes, growth: peak() - before }));`,
      resolveDir: folder,
    },
    outfile: join(folder, "load.mjs"),
    bundle: true,
    format: "esm",
    platform: "node",
    tsconfig,
  });
  const { stdout } = await promisify(execFile)(process.execPath, [join(folder, "load.mjs"), folder]);
  const { bytes, growth } = JSON.parse(stdout) as { bytes: number; growth: number };
  expect(bytes).toBe(4 * elements);
  expect(growth / bytes).toBeGreaterThan(0.9); // all of it was there
  expect(growth / bytes).toBeLessThan(1.2);
});

/** A safetensors file of ones, tensor by tensor. */
function* halfPrecisionFile(
  shapes: readonly { readonly name: string; readonly shape: readonly number[] }[],
): Generator<Uint8Array> {
  let position = 0;
  const entries = shapes.map(({ name, shape }) => {
    const begin = position;
    position += 2 * sizeOf(shape);
    return [name, { dtype: "F16", shape, data_offsets: [begin, position] }] as const;
  });
  const header = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  yield new Uint8Array(BigUint64Array.of(BigInt(header.length)).buffer);
  yield header;
  for (const { shape } of shapes) yield new Uint8Array(new Uint16Array(sizeOf(shape)).fill(0x3c00).buffer);
}
