import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { SdxsError } from "../core/errors.js";
import { encodeBfloat16, encodeFloat16 } from "./half.js";
import { HostTensor } from "../core/host-tensor.js";
import { random } from "../core/random.js";
import {
  openSafetensors,
  parseSafetensorsHeader,
  readSafetensors,
  safetensorsChunks,
  writeSafetensors,
  type RandomAccessSource,
} from "./safetensors.js";

// The weights of diffusers' AutoencoderTiny (see fixtures/README.md), written by the reference implementation.
const golden = new Uint8Array(readFileSync(new URL("../../fixtures/taesd-small.safetensors", import.meta.url)));

/** A file of this header and so many zero bytes of data. */
function file(header: unknown, dataBytes: number): Uint8Array {
  const text = typeof header === "string" ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setUint32(0, json.length, true);
  bytes.set(json, 8);
  return bytes;
}

/** A file of one tensor "x" with these data. */
function single(dtype: string, shape: number[], data: ArrayBufferView): Uint8Array {
  const bytes = file({ x: { dtype, shape, data_offsets: [0, data.byteLength] } }, data.byteLength);
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), bytes.length - data.byteLength);
  return bytes;
}

function fromMemory(bytes: Uint8Array): RandomAccessSource & { reads: [number, number][] } {
  const reads: [number, number][] = [];
  return {
    size: bytes.length,
    reads,
    read: (offset, length) => {
      reads.push([offset, length]);
      return Promise.resolve(bytes.subarray(offset, offset + length));
    },
  };
}

const F32 = (shape: number[], begin: number, end: number) => ({ dtype: "F32", shape, data_offsets: [begin, end] });

describe("readSafetensors", () => {
  it("reads a file of diffusers", () => {
    const { tensors, metadata } = readSafetensors(golden);
    expect(metadata).toEqual({ format: "pt" });
    // 134 tensors of 155,079 elements: the state dict that diffusers counts.
    expect(Object.keys(tensors).length).toBe(134);
    expect(Object.values(tensors).reduce((total, tensor) => total + tensor.data.length, 0)).toBe(155079);
    const weight = tensors["encoder.layers.0.weight"]!;
    expect(weight.shape).toEqual([16, 3, 3, 3]);
    // First elements and float64 sum as NumPy reads them from the file.
    expect([...weight.data.slice(0, 4)]).toEqual([0.1788330078125, 0.062469482421875, -0.1776123046875, -0.1640625]);
    expect(Array.from(weight.data).reduce((sum, value) => sum + value, 0)).toBe(-5.698441505432129);
  });

  it.each([
    ["F32", Float32Array.of(1.5, -2, 1e-40), Float32Array.of(1.5, -2, 1e-40)],
    ["F16", Uint16Array.of(0x3c00, 0xc000, 0x0001), Float32Array.of(1, -2, 2 ** -24)],
    ["BF16", Uint16Array.of(0x3f80, 0xc000, 0x4049), Float32Array.of(1, -2, 3.140625)],
    ["F8_E4M3", Uint8Array.of(0x38, 0xc0, 0x7e), Float32Array.of(1, -2, 448)],
    ["F8_E5M2", Uint8Array.of(0x3c, 0xc0, 0x01), Float32Array.of(1, -2, 2 ** -16)],
    ["F64", Float64Array.of(0.1, 1e300, -2), Float32Array.of(0.1, Infinity, -2)],
    ["I64", BigInt64Array.of(-1n, 2147483647n, -2147483648n), Int32Array.of(-1, 2147483647, -2147483648)],
    ["I32", Int32Array.of(-1, 2, 3), Int32Array.of(-1, 2, 3)],
    ["I16", Int16Array.of(-32768, 2, 3), Int32Array.of(-32768, 2, 3)],
    ["I8", Int8Array.of(-128, 2, 3), Int32Array.of(-128, 2, 3)],
    ["U16", Uint16Array.of(65535, 2, 3), Int32Array.of(65535, 2, 3)],
    ["U8", Uint8Array.of(255, 2, 3), Int32Array.of(255, 2, 3)],
    ["BOOL", Uint8Array.of(1, 0, 1), Uint8Array.of(1, 0, 1)],
  ])("reads %s", (dtype, stored, expected) => {
    expect(readSafetensors(single(dtype, [3], stored)).tensors["x"]).toEqual(new HostTensor([3], expected));
  });

  it("shares no memory with the file's bytes", () => {
    const bytes = single("F32", [2], Float32Array.of(1, 2));
    const tensor = readSafetensors(bytes).tensors["x"]!;
    bytes.fill(0);
    expect([...tensor.data]).toEqual([1, 2]);
  });

  it("refuses numbers and types that its tensors cannot hold, and says which", () => {
    const unsupported = { code: "UNSUPPORTED_OPERATION" };
    const read = (bytes: Uint8Array) => () => readSafetensors(bytes);
    expect(read(single("I64", [2], BigInt64Array.of(5n, -2147483649n)))).toThrow(
      expect.objectContaining({ ...unsupported, message: expect.stringContaining("-2147483649 at position 1") }),
    );
    const others: [dtype: string, elements: number, bytes: number][] = [
      ["U32", 1, 4],
      ["U64", 1, 8],
      ["C64", 1, 8],
      ["F8_E8M0", 1, 1],
      ["F8_E4M3FNUZ", 1, 1],
      ["F8_E5M2FNUZ", 1, 1],
      ["F6_E2M3", 4, 3],
      ["F6_E3M2", 4, 3],
      ["F4", 2, 1],
    ];
    for (const [dtype, elements, bytes] of others) {
      const message = expect.stringMatching(`"x" has the type ${dtype}, which is not read`);
      expect(read(single(dtype, [elements], new Uint8Array(bytes)))).toThrow(
        expect.objectContaining({ ...unsupported, message }),
      );
    }
    expect(read(single("BOOL", [2], Uint8Array.of(1, 2)))).toThrow(/BOOL tensor "x" holds the byte 2/);
  });

  it("accepts scalars, empty tensors, no tensors, and names that JavaScript's objects treat specially", () => {
    expect(readSafetensors(single("F32", [], Float32Array.of(7))).tensors["x"]?.item()).toBe(7);
    expect(readSafetensors(file("{}", 0)).tensors).toEqual({});
    const header =
      '{"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"0":{"dtype":"F32","shape":[0,9],"data_offsets":[4,4]}}';
    const { tensors } = readSafetensors(file(header, 4));
    expect(Object.keys(tensors).sort()).toEqual(["0", "__proto__"]);
  });
});

describe("parseSafetensorsHeader", () => {
  it.each([
    ["an empty file", new Uint8Array(0), /begins with 8 bytes/],
    ["a file of 7 bytes", new Uint8Array(7), /begins with 8 bytes/],
    ["a header length beyond the file", file("{}", 0).fill(99, 0, 1), /claims 99 bytes, the file has 10/],
    ["a header length of 2^63", file("{}", 0).fill(0x80, 7, 8), /limit of 100000000/],
    ["text that is no JSON", file("{,}", 0), /not JSON/],
    [
      "a pointer of Git LFS",
      new TextEncoder().encode("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
      /Fetch the file itself: git lfs pull/,
    ],
    ["an empty header", file("", 0), /not JSON/],
    ["bytes that are no UTF-8", file("{}", 0).fill(0xff, 8, 9), /not JSON in UTF-8/],
    ["a byte order mark", file("\ufeff{}", 0), /not JSON/],
    ["an array", file("[]", 0), /must be a JSON object/],
    ["null", file("null", 0), /must be a JSON object/],
    ["deep nesting", file("[".repeat(100000), 0), /nested more deeply/],
    ["a name twice", file('{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"\\u0061":{}}', 4), /"a" twice/],
    ["a field twice", file('{"a":{"dtype":"F32","shape":[],"shape":[1],"data_offsets":[0,4]}}', 4), /"shape" twice/],
    ["a list that costs more than its text", file(`{"a":[${"0,".repeat(100000)}0]}`, 0), /more than 65 elements/],
    [
      "objects that cost more than their text",
      file(
        `{${'"a":{},'.repeat(100)}"b":{}}`.replaceAll(/"a"/g, (_, at: number) => `"${at}"`),
        0,
      ),
      /more objects than tensors/,
    ],
    [
      "a tensor with an endless name",
      file({ ["a".repeat(1e6)]: 3 }, 0),
      /^.{0,300}\.\.\. \(1000002 characters\) must be/,
    ],
    ["a tensor that is no object", file({ a: 3 }, 0), /"a" must be described by an object/],
    ["an unknown type", file({ a: { ...F32([1], 0, 4), dtype: "Q4" } }, 4), /"a" has the element type "Q4"/],
    ["an inherited name as type", file({ a: { ...F32([1], 0, 4), dtype: "toString" } }, 4), /type "toString"/],
    ["no shape", file({ a: { dtype: "F32", data_offsets: [0, 4] } }, 4), /"a" needs a "shape"/],
    ["a negative size", file({ a: F32([-1], 0, 4) }, 4), /"a" needs a "shape" of whole numbers/],
    ["a broken size", file({ a: F32([0.5, 2], 0, 4) }, 4), /"a" needs a "shape" of whole numbers/],
    ["a size that is a text", file('{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}', 4), /"shape"/],
    ["a size beyond 2^53", file({ a: F32([2 ** 60], 0, 4) }, 4), /"a" needs a "shape" of whole numbers/],
    ["a product beyond 2^53", file({ a: F32([2 ** 30, 2 ** 30], 0, 4) }, 4), /larger than any file/],
    ["a product that 64 bits wrap to 4", file({ a: F32([2 ** 32 + 1, 2 ** 32, 1], 0, 4) }, 4), /larger than any file/],
    ["too many axes", file({ a: F32(Array<number>(65).fill(1), 0, 4) }, 4), /65 axes/],
    ["one offset", file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}', 4), /"data_offsets"/],
    ["three offsets", file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}', 4), /"data_offsets"/],
    ["offsets in reverse", file({ a: F32([1], 4, 0) }, 4), /ends at byte 0, before it begins at 4/],
    ["offsets beyond the end", file({ a: F32([2], 0, 8) }, 4), /"a" ends at byte 8, beyond the file's 4 bytes/],
    ["a shape of another size", file({ a: F32([3], 0, 8) }, 8), /"a" has 8 bytes; F32 of shape \[3\] needs 12/],
    ["an overlap", file({ a: F32([2], 0, 8), b: F32([2], 4, 12) }, 12), /"b" overlap/],
    ["a gap", file({ a: F32([1], 0, 4), b: F32([1], 8, 12) }, 12), /"b" leave a gap/],
    ["a gap at the beginning", file({ a: F32([1], 4, 8) }, 8), /"a" leave a gap/],
    ["bytes after the last tensor", file({ a: F32([1], 0, 4) }, 5), /changed after writing/],
    ["metadata that are no object", file({ __metadata__: [] }, 0), /must be an object of texts/],
    ["metadata that are no texts", file({ __metadata__: { steps: 3 } }, 0), /"steps" must be a text, got number/],
  ])("refuses %s", (_, bytes, message) => {
    expect(() => readSafetensors(bytes)).toThrow(
      expect.objectContaining({ code: "MALFORMED_FILE", message: expect.stringMatching(message) }),
    );
  });

  it("lists the tensors in the order of their bytes, with places in the file", () => {
    const bytes = file({ b: F32([2], 4, 12), a: F32([], 0, 4) }, 12);
    const { tensors } = parseSafetensorsHeader(bytes, bytes.length);
    const start = bytes.length - 12;
    expect([...tensors]).toEqual([
      ["a", { dtype: "F32", shape: [], offset: start, length: 4 }],
      ["b", { dtype: "F32", shape: [2], offset: start + 4, length: 8 }],
    ]);
  });
});

describe("writeSafetensors", () => {
  const numbers = random(1).normal([3, 5]);
  const tensors = {
    flags: new HostTensor([3], Uint8Array.of(1, 0, 1)),
    "layer.weight": numbers,
    ids: new HostTensor([2], Int32Array.of(-7, 2 ** 31 - 1)),
    scalar: HostTensor.scalar(0.5),
    nothing: HostTensor.filled([0, 4], 1),
  };

  it("gives back what it was given", () => {
    const metadata = { format: "pt", "an umlaut": "ä\n" };
    const read = readSafetensors(writeSafetensors(tensors, { metadata }));
    expect(read.tensors).toEqual(tensors);
    expect(read.metadata).toEqual(metadata);
  });

  it.each([
    // Half of the last place: 11 and 8 bits of precision.
    ["F16", 2 ** -11],
    ["BF16", 2 ** -8],
  ] as const)("stores float32 as %s, rounded to its precision, and all else unchanged", (dtype, precision) => {
    const bytes = writeSafetensors(tensors, { dtype });
    const read = readSafetensors(bytes).tensors;
    expect(parseSafetensorsHeader(bytes, bytes.length).tensors.get("layer.weight")?.dtype).toBe(dtype);
    expect(read["ids"]).toEqual(tensors.ids);
    expect(read["flags"]).toEqual(tensors.flags);
    read["layer.weight"]!.data.forEach((value, i) => {
      expect(Math.abs(value - numbers.data[i]!)).toBeLessThanOrEqual(precision * Math.abs(numbers.data[i]!));
    });
    expect(writeSafetensors(read, { dtype })).toEqual(bytes);
  });

  it("writes the same bytes in whatever order names and metadata come", () => {
    const reversed = Object.fromEntries(Object.entries(tensors).reverse());
    expect(writeSafetensors(reversed, { metadata: { b: "2", a: "1" } })).toEqual(
      writeSafetensors(tensors, { metadata: { a: "1", b: "2" } }),
    );
  });

  it("aligns the header to 8 bytes and each tensor to its elements", () => {
    const bytes = writeSafetensors(tensors, { dtype: "F16" });
    const { tensors: infos } = parseSafetensorsHeader(bytes, bytes.length);
    expect([...infos].map(([name]) => name)).toEqual(["ids", "layer.weight", "nothing", "scalar", "flags"]);
    const [first] = infos.values();
    expect(first!.offset % 8).toBe(0);
    expect(infos.get("layer.weight")!.offset % 2).toBe(0);
  });

  it("writes the bytes that the format's definition asks for", () => {
    const text = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}';
    const bytes = writeSafetensors({ a: HostTensor.from([1], [1]) });
    // 54 bytes of JSON, padded to 56; 1.0 is 0x3f800000.
    expect([...bytes.slice(0, 8)]).toEqual([56, 0, 0, 0, 0, 0, 0, 0]);
    expect(new TextDecoder().decode(bytes.slice(8, 64))).toBe(`${text}  `);
    expect([...bytes.slice(64)]).toEqual([0, 0, 0x80, 0x3f]);
  });

  it("makes one piece per tensor, and each only on demand", () => {
    const pieces = safetensorsChunks(
      { a: HostTensor.from([1], [1]), b: HostTensor.from([1], [1e9]) },
      { dtype: "F16" },
    );
    pieces.next();
    expect(pieces.next().value?.length).toBe(2);
    expect(() => pieces.next()).toThrow(/"b" holds 1000000000, F16 ends at 65504/);
  });

  it("keeps infinities and NaN in F16", () => {
    const special = HostTensor.from([3], [Infinity, -Infinity, NaN]);
    expect(readSafetensors(writeSafetensors({ special }, { dtype: "F16" })).tensors["special"]).toEqual(special);
  });

  it("refuses the name that the format reserves", () => {
    expect(() => writeSafetensors({ __metadata__: numbers })).toThrow(/reserved/);
  });

  it("writes a part of a larger buffer", () => {
    const part = new HostTensor([2], new Float32Array([1, 2, 3, 4]).subarray(1, 3));
    expect([...readSafetensors(writeSafetensors({ part })).tensors["part"]!.data]).toEqual([2, 3]);
  });
});

describe("openSafetensors", () => {
  it("reads the header and then one tensor at a time", async () => {
    const source = fromMemory(golden);
    const reader = await openSafetensors(source);
    expect(reader.names.length).toBe(134);
    expect(reader.metadata).toEqual({ format: "pt" });
    const name = "encoder.layers.0.weight";
    source.reads.length = 0;
    expect(await reader.read(name)).toEqual(readSafetensors(golden).tensors[name]);
    const { offset, length } = reader.info(name);
    expect(length).toBe(16 * 3 * 3 * 3 * 2);
    expect(source.reads).toEqual([[offset, length]]);
  });

  it.each([
    ["fills the memory it is given", true],
    ["gives memory of its own", false],
  ])("reads tensors larger than a piece, several at once, from a source that %s", async (_, fills) => {
    // 1.2 MB of each element type that is converted, more than the 1 MiB that are read at once.
    const count = 600_000;
    const numbers = Float32Array.from({ length: count }, (_, i) => (i % 251) - 100);
    const stored = {
      F16: encodeFloat16(numbers),
      BF16: encodeBfloat16(numbers),
      I64: BigInt64Array.from(numbers, (value) => BigInt(value)),
      U8: Uint8Array.from(numbers, (value) => value + 100),
    };
    let position = 0;
    const header = Object.fromEntries(
      Object.entries(stored).map(([dtype, { byteLength }]) => {
        const begin = position;
        position += byteLength;
        return [dtype, { dtype, shape: [count], data_offsets: [begin, position] }];
      }),
    );
    const bytes = file(header, position);
    let at = bytes.length - position;
    for (const { buffer } of Object.values(stored)) {
      bytes.set(new Uint8Array(buffer), at);
      at += buffer.byteLength;
    }
    const reader = await openSafetensors({
      size: bytes.length,
      read(offset, length, into) {
        const piece = bytes.subarray(offset, offset + length);
        if (fills) into.set(piece);
        return Promise.resolve(fills ? into : piece);
      },
    });
    const [f16, bf16, i64, u8] = await Promise.all(["F16", "BF16", "I64", "U8"].map((name) => reader.read(name)));
    // All numbers are whole, so that every type holds them exactly. Bytes, since comparing elements takes seconds.
    const same = (actual: HostTensor | undefined, expected: Float32Array | Int32Array): boolean =>
      Buffer.from(actual!.data.buffer).equals(Buffer.from(expected.buffer));
    expect(same(f16, numbers)).toBe(true);
    expect(same(bf16, numbers)).toBe(true);
    expect(same(i64, Int32Array.from(numbers))).toBe(true);
    expect(same(u8, Int32Array.from(stored.U8))).toBe(true);
  });

  it("refuses unknown names and sources that give too little", async () => {
    const reader = await openSafetensors(fromMemory(golden));
    expect(() => reader.info("nonsense")).toThrow(/no tensor "nonsense"/);
    await expect(reader.read("nonsense")).rejects.toThrow(/no tensor "nonsense"/);
    const short = {
      size: golden.length,
      read: (offset: number) => Promise.resolve(golden.subarray(offset, offset + 8)),
    };
    await expect(openSafetensors(short)).rejects.toThrow(expect.objectContaining({ code: "MALFORMED_FILE" }));
  });

  it("asks for no more than the file has, whatever the header claims", async () => {
    const claims = file({ a: F32([2 ** 40], 0, 2 ** 42) }, 4);
    const source = fromMemory(claims);
    await expect(openSafetensors(source)).rejects.toThrow(expect.objectContaining({ code: "MALFORMED_FILE" }));
    expect(source.reads.every(([offset, length]) => offset + length <= claims.length)).toBe(true);
  });
});

describe("damaged files", () => {
  const bytes = writeSafetensors(
    {
      a: random(1).normal([2, 3]),
      b: new HostTensor([2], Int32Array.of(1, 2)),
      c: new HostTensor([1], Uint8Array.of(1)),
    },
    { metadata: { format: "pt" } },
  );

  /** Reads the bytes; anything but success and an SdxsError fails the test. */
  function outcome(damaged: Uint8Array): "read" | "refused" {
    try {
      const { tensors } = readSafetensors(damaged);
      const size = Object.values(tensors).reduce((total, { data }) => total + data.byteLength, 0);
      // U8 becomes int32: four bytes for one.
      expect(size).toBeLessThanOrEqual(4 * damaged.length);
      return "read";
    } catch (error) {
      expect(error).toBeInstanceOf(SdxsError);
      return "refused";
    }
  }

  it("refuses every truncation and every extension", () => {
    for (let length = 0; length < bytes.length; length++) expect(outcome(bytes.slice(0, length))).toBe("refused");
    expect(outcome(Uint8Array.of(...bytes, 0))).toBe("refused");
  });

  it("reads or refuses a file with any one byte changed, and never fails in another way", () => {
    const outcomes = { read: 0, refused: 0 };
    for (let position = 0; position < bytes.length; position++) {
      for (const change of [1, 2, 4, 8, 16, 32, 64, 128, 255]) {
        const damaged = bytes.slice();
        damaged[position]! ^= change;
        outcomes[outcome(damaged)]++;
      }
    }
    expect(outcomes.refused).toBeGreaterThan(outcomes.read);
  });

  it("reads or refuses files with several random changes", () => {
    for (let round = 0; round < 3000; round++) {
      const stream = random(99, round);
      const [count = 1] = stream.at("count").integers([1], 1, 12).data;
      const positions = stream.at("positions").integers([count], 0, bytes.length - 30).data;
      const values = stream.at("values").integers([count], 0, 256).data;
      const damaged = bytes.slice();
      positions.forEach((position, i) => (damaged[position] = values[i]!));
      outcome(damaged);
    }
  });

  it("reads or refuses headers made of the format's own pieces at random", () => {
    const pieces = [
      "{",
      "}",
      "[",
      "]",
      ":",
      ",",
      '"a"',
      '"dtype"',
      '"F32"',
      '"shape"',
      '"data_offsets"',
      "0",
      "4",
      "1e99",
      '"',
      "\\",
      "null",
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}',
    ];
    for (let round = 0; round < 3000; round++) {
      const choice = random(98, round).integers([8], 0, pieces.length).data;
      outcome(file([...choice].map((i) => pieces[i]).join(""), 4));
    }
  });
});
