import { describe, expect, it } from "vitest";
import { readSafetensors } from "@sdxs/tensor";
import { documentTables } from "@sdxs/tensor/testing";
import { modelClasses } from "./model-classes.js";

const rows = await documentTables(
  new URL("../../../../docs/compatibility.md", import.meta.url),
  "Weight files and exports",
);
const codes = (cell = ""): string[] => [...cell.replaceAll("`", "").matchAll(/\b[A-Z]\w*\b/g)].map(([code]) => code);
const types = rows
  .filter(([first = "", ...rest]) => rest.length === 1 && /^[A-Z]\w*\d|^BOOL/.test(first))
  .flatMap(([written, here = ""]) => codes(written).map((type) => [type, here] as const));

/** A file of one tensor of four elements, all zero bits. */
function fileOf(dtype: string): Uint8Array {
  const bits = /^F4$/.test(dtype)
    ? 4
    : /^F6_/.test(dtype)
      ? 6
      : /8|BOOL/.test(dtype)
        ? 8
        : Number(/\d+/.exec(dtype)![0]);
  const bytes = (4 * bits) / 8;
  const header = Buffer.from(JSON.stringify({ x: { dtype, shape: [4], data_offsets: [0, bytes] } }));
  const length = Buffer.alloc(8);
  length.writeUInt32LE(header.length);
  return Buffer.concat([length, header, Buffer.alloc(bytes)]);
}

describe("docs/compatibility.md says of weight files", () => {
  it.each(types)("%s: %s", (type, here) => {
    const read = () => readSafetensors(fileOf(type)).tensors["x"];
    if (here === "refused by name") {
      const message = expect.stringContaining(`the type ${type}`) as unknown;
      expect(read).toThrow(expect.objectContaining({ code: "UNSUPPORTED_OPERATION", message }) as Error);
    } else expect(Array.from(read()!.data)).toEqual([0, 0, 0, 0]);
  });

  it("every type that safetensors has", () => {
    // enum Dtype of safetensors 0.7
    const all =
      "BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64";
    expect(types.map(([type]) => type).sort()).toEqual(all.split(" ").sort());
  });

  it("every class that is loaded and saved", () => {
    const listed = rows.filter(([, loaded]) => loaded === "yes");
    const actual = Object.entries(modelClasses).map(([name, { library }]) => [name, "yes", `${library}' folder`]);
    expect(listed.sort()).toEqual(actual.sort());
  });
});
