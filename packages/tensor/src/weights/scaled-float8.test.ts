import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { openCheckpoint } from "../node/checkpoint.js";

const folder = mkdtempSync(join(tmpdir(), "sdxs-float8-"));
afterAll(() => rmSync(folder, { recursive: true }));

type Stored = readonly [dtype: string, shape: readonly number[], bytes: ArrayLike<number>];
const F32 = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);

function layOut(tensors: Readonly<Record<string, Stored>>): string {
  let end = 0;
  const header = Object.entries(tensors).map(([name, [dtype, shape, { length }]]) => {
    const begin = end;
    return [name, { dtype, shape, data_offsets: [begin, (end += length)] }] as const;
  });
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const size = Buffer.alloc(8);
  size.writeUInt32LE(json.length);
  const bytes = Object.values(tensors).map(([, , data]) => Uint8Array.from(data));
  writeFileSync(join(folder, "model.safetensors"), Buffer.concat([size, json, ...bytes]));
  return join(folder, "model");
}

// 1, -2, 448 and 0.001953125 = 2^-9 in E4M3.
const weight: Stored = ["F8_E4M3", [2, 2], [0x38, 0xc0, 0x7e, 0x01]];

it("weights of 8 bits are read times the scales beside them", async () => {
  const path = layOut({
    scaled_fp8: ["F8_E4M3", [2], [0, 0]],
    "one.weight": weight,
    "one.bias": ["F32", [2], F32(3, 5)],
    "one.scale_weight": ["F32", [], F32(0.5)],
    "one.scale_input": ["F32", [], F32(7)],
    "rows.weight": weight,
    "rows.weight_scale": ["F32", [2, 1], F32(2, 0.25)],
    "plain.weight": weight,
  });
  const file = await openCheckpoint(path);
  expect([...file.names].sort()).toEqual(["one.bias", "one.weight", "plain.weight", "rows.weight"]);
  const read = async (name: string): Promise<number[]> => Array.from((await file.read(name)).data);
  expect(await read("one.weight")).toEqual([0.5, -1, 224, 2 ** -10]);
  expect(await read("one.bias")).toEqual([3, 5]);
  expect(await read("rows.weight")).toEqual([2, -4, 112, 2 ** -11]);
  expect(await read("plain.weight")).toEqual([1, -2, 448, 2 ** -9]);
  await file.close();
});

it.each<[what: string, tensors: Readonly<Record<string, Stored>>, message: RegExp]>([
  [
    "blocks",
    { "a.weight": weight, "a.scale_weight": ["F32", [2, 2, 1], F32(1, 2, 3, 4)] },
    /"a.scale_weight" holds 4 scales of blocks/,
  ],
  [
    "8-bit integers",
    { "a.weight": ["I8", [4], [1, 2, 3, 4]], "a.weight_scale": ["F32", [], F32(1)] },
    /"a.weight_scale" scales "a.weight", which is no tensor of F8_E4M3 or F8_E5M2/,
  ],
  ["nothing", { "a.scale_weight": ["F32", [], F32(1)] }, /"a.scale_weight" scales "a.weight"/],
  ["a layer in a later layout", { "a.weight": weight, "a.comfy_quant": ["U8", [2], [123, 125]] }, /"a.comfy_quant"/],
])("scales of %s are refused by their name", async (_what, tensors, message) => {
  await expect(openCheckpoint(layOut(tensors))).rejects.toMatchObject({
    code: "UNSUPPORTED_OPERATION",
    message: expect.stringMatching(message) as unknown,
  });
});
