import { InvalidArgumentError, MalformedFileError, SdxsError } from "../core/errors.js";
import { decodeFloat8 } from "./float8.js";
import { decodeBfloat16, decodeFloat16, encodeBfloat16, encodeFloat16Checked } from "./half.js";
import { HostTensor, sizeOf, type HostData, type Shape } from "../core/host-tensor.js";
import { parseJson } from "../core/json.js";
import type { TensorMap } from "../core/ops.js";

// The format: 8 bytes with the header's length, the header as JSON, the tensors' bytes; all little-endian, as every
// platform that runs JavaScript is. https://huggingface.co/docs/safetensors

/** Bytes per element of the format's element types, as of its release 0.7. */
const BYTES_PER_ELEMENT = {
  BOOL: 1,
  F4: 0.5,
  F6_E2M3: 0.75,
  F6_E3M2: 0.75,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  F8_E4M3FNUZ: 1,
  F8_E5M2FNUZ: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
  C64: 8,
} as const;

/** Element types of the file format. */
export type SafetensorsDType = keyof typeof BYTES_PER_ELEMENT;

/** A tensor's entry in the header. */
export interface SafetensorsInfo {
  readonly dtype: SafetensorsDType;
  readonly shape: Shape;
  /** Position of the first byte in the file. */
  readonly offset: number;
  /** Length in bytes. */
  readonly length: number;
}

export interface SafetensorsHeader {
  /** By name, in the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, SafetensorsInfo>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** A source of byte ranges: a file, a blob, an HTTP server. */
export interface RandomAccessSource {
  /** Length in bytes. */
  readonly size: number;
  /**
   * Exactly `length` bytes from `offset` on. A source that can fills `into`, which has that length, and returns it:
   * reading a large file then leaves nothing to collect.
   */
  read(offset: number, length: number, into: Uint8Array<ArrayBuffer>): Promise<Uint8Array>;
}

/** An opened file whose tensors are read one at a time. */
export interface SafetensorsReader {
  /** In the order of their bytes in the file. */
  readonly names: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Throws InvalidArgumentError for a name that the file lacks. */
  info(name: string): SafetensorsInfo;
  /** Reads one tensor; see `readSafetensors` for the types. */
  read(name: string): Promise<HostTensor>;
}

export interface WriteSafetensorsOptions {
  /** How float32 tensors are stored. Default "F32". */
  readonly dtype?: "F32" | "F16" | "BF16";
  readonly metadata?: Readonly<Record<string, string>>;
}

/** The reference implementation's bound on the header: 100 million bytes. */
const MAX_HEADER_BYTES = 100_000_000;
/** Chosen: NumPy's bound on axes; models use at most 5. */
const MAX_AXES = 64;
/** Chosen: keeps the tensors' bytes aligned for every element type. */
const ALIGNMENT = 8;
/** The beginning of Git LFS's pointer file, which replaces a file that was not fetched. */
const POINTER_START = new TextEncoder().encode("version ");
/** What is read at once of a tensor that is converted: chosen, a piece stays in the processor's cache. */
const PIECE_BYTES = 2 ** 20;

/**
 * Length in bytes of the header, checked against the file's size before anything is read or allocated on its word.
 *
 * @param prefix At least the file's first 8 bytes.
 */
export function safetensorsHeaderLength(prefix: Uint8Array, fileSize: number): number {
  if (prefix.length < 8 || fileSize < 8) {
    throw new MalformedFileError(
      `safetensors: a file begins with 8 bytes that give its header's length, this one has ${fileSize} in all.`,
    );
  }
  if (POINTER_START.every((byte, index) => prefix[index] === byte)) {
    throw new MalformedFileError(
      "safetensors: this is not the model but Git LFS's pointer to it. Fetch the file itself: git lfs pull",
    );
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, prefix.byteLength);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > MAX_HEADER_BYTES) {
    throw new MalformedFileError(
      `safetensors: the header claims ${length} bytes, more than the format's limit of ${MAX_HEADER_BYTES}. ` +
        `Is this a safetensors file?`,
    );
  }
  if (length > fileSize - 8) {
    throw new MalformedFileError(
      `safetensors: the header claims ${length} bytes, the file has ${fileSize} in all. The file is cut off (fetch it again), or no safetensors file.`,
    );
  }
  return length;
}

/**
 * Reads and checks a file's header: names, element types, shapes, and that the tensors' bytes fill the rest of the
 * file without gaps or overlaps.
 *
 * @param prefix The file's first bytes: the header's length (8 bytes) and the header; more does no harm.
 * @param fileSize Bytes of the whole file.
 * @throws MalformedFileError which names the tensor and what is wrong with it.
 */
export function parseSafetensorsHeader(prefix: Uint8Array, fileSize: number): SafetensorsHeader {
  const headerLength = safetensorsHeaderLength(prefix, fileSize);
  if (prefix.length < 8 + headerLength) {
    throw new InvalidArgumentError(
      `parseSafetensorsHeader: needs the first ${8 + headerLength} bytes of the file, got ${prefix.length}.`,
    );
  }
  const header = parseHeaderText(prefix.subarray(8, 8 + headerLength));
  const dataStart = 8 + headerLength;

  let metadata: Record<string, string> = {};
  const tensors: [name: string, info: SafetensorsInfo][] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") metadata = checkMetadata(entry);
    else tensors.push([name, checkEntry(name, entry, dataStart, fileSize)]);
  }

  tensors.sort(([, a], [, b]) => a.offset - b.offset || a.length - b.length);
  let position = dataStart;
  for (const [name, { offset, length }] of tensors) {
    if (offset !== position) {
      const problem = offset < position ? "overlap the tensor before" : "leave a gap after the tensor before";
      throw new MalformedFileError(
        `safetensors: the bytes of the tensor ${quote(name)} ${problem}: they begin at ${offset - dataStart} ` +
          `instead of ${position - dataStart}.`,
      );
    }
    position = offset + length;
  }
  if (position !== fileSize) {
    throw new MalformedFileError(
      `safetensors: the tensors end at byte ${position}, the file has ${fileSize}. It was changed after writing.`,
    );
  }
  return { tensors: new Map(tensors), metadata };
}

/**
 * Reads a whole file from memory.
 *
 * F32, F16, BF16, F8_E4M3, F8_E5M2 and F64 become float32 (F64 is rounded, all others are exact); I64 (which must fit), I32,
 * I16, I8, U16 and U8 become int32; BOOL becomes bool. Nothing shares memory with `bytes`.
 *
 * @throws MalformedFileError where the file is broken; SdxsError with code UNSUPPORTED_OPERATION for other types
 * and for numbers beyond int32.
 *
 * @example
 * const { tensors } = readSafetensors(new Uint8Array(await (await fetch(url)).arrayBuffer()));
 */
export function readSafetensors(bytes: Uint8Array): {
  readonly tensors: Record<string, HostTensor>;
  readonly metadata: Readonly<Record<string, string>>;
} {
  const { tensors, metadata } = parseSafetensorsHeader(bytes, bytes.length);
  return {
    tensors: Object.fromEntries(
      [...tensors].map(([name, info]) => [
        name,
        decodeTensor(name, info, bytes.subarray(info.offset, info.offset + info.length)),
      ]),
    ),
    metadata,
  };
}

/**
 * Opens a file of any size. The header is read now, each tensor by `read`.
 *
 * @throws MalformedFileError as `parseSafetensorsHeader`, and where the source gives fewer bytes than it promised.
 */
export async function openSafetensors(source: RandomAccessSource): Promise<SafetensorsReader> {
  const first = await readExactly(source, 0, new Uint8Array(Math.min(8, source.size)));
  const headerLength = safetensorsHeaderLength(first, source.size);
  const header = await readExactly(source, 0, new Uint8Array(8 + headerLength));
  const { tensors, metadata } = parseSafetensorsHeader(header, source.size);
  const info = (name: string): SafetensorsInfo => {
    const found = tensors.get(name);
    if (found === undefined) {
      throw new InvalidArgumentError(
        `safetensors: the file has no tensor "${name}"; it has ${tensors.size}, see the reader's names.`,
      );
    }
    return found;
  };
  let spare: Uint8Array<ArrayBuffer> | undefined; // kept from one tensor to the next
  return {
    names: [...tensors.keys()],
    metadata,
    info,
    async read(name) {
      const { dtype, shape, offset, length } = info(name);
      const data = allocate(name, dtype, sizeOf(shape));
      if (isStoredAsIs(dtype)) {
        const memory = new Uint8Array(data.buffer);
        const bytes = await readExactly(source, offset, memory);
        if (bytes.buffer !== memory.buffer) memory.set(bytes);
        if (dtype === "BOOL") checkBooleans(name, memory);
      } else {
        const scratch = spare ?? new Uint8Array(PIECE_BYTES);
        spare = undefined;
        for (let start = 0; start < length; start += PIECE_BYTES) {
          const piece = scratch.subarray(0, Math.min(PIECE_BYTES, length - start));
          decode(name, dtype, await readExactly(source, offset + start, piece), data, start / BYTES_PER_ELEMENT[dtype]);
        }
        spare = scratch;
      }
      return new HostTensor(shape, data);
    },
  };
}

/**
 * A file's bytes in pieces, the header first and then one piece per tensor, each made on demand.
 * The same tensors and options give the same bytes, whatever the order of the names.
 *
 * float32 is stored as `options.dtype`, int32 as I32, bool as BOOL.
 *
 * @throws InvalidArgumentError for the name "__metadata__", and for a finite number beyond F16's range.
 */
export function* safetensorsChunks(
  tensors: TensorMap<HostTensor>,
  options: WriteSafetensorsOptions = {},
): Generator<Uint8Array<ArrayBuffer>, void, undefined> {
  const entries = Object.entries(tensors).map(([name, tensor]) => ({
    name,
    tensor,
    dtype: tensor.dtype === "float32" ? (options.dtype ?? "F32") : tensor.dtype === "int32" ? "I32" : "BOOL",
  })) satisfies { dtype: SafetensorsDType }[];
  // The widest elements first keeps every tensor aligned; names settle the rest.
  entries.sort((a, b) => BYTES_PER_ELEMENT[b.dtype] - BYTES_PER_ELEMENT[a.dtype] || (a.name < b.name ? -1 : 1));

  let position = 0;
  const header: [string, unknown][] = [];
  const metadata = Object.entries(options.metadata ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  if (metadata.length > 0) header.push(["__metadata__", Object.fromEntries(metadata)]);
  for (const { name, tensor, dtype } of entries) {
    if (name === "__metadata__") {
      throw new InvalidArgumentError(`safetensors: "__metadata__" is reserved by the format; rename the tensor.`);
    }
    const end = position + sizeOf(tensor.shape) * BYTES_PER_ELEMENT[dtype];
    header.push([name, { dtype, shape: tensor.shape, data_offsets: [position, end] }]);
    position = end;
  }
  yield encodeHeader(header);
  for (const { name, tensor, dtype } of entries) yield encode(name, tensor.data, dtype);
}

/**
 * A whole file in memory; see `safetensorsChunks`.
 *
 * @example
 * const bytes = writeSafetensors(weights, { dtype: "F16", metadata: { format: "pt" } });
 */
export function writeSafetensors(
  tensors: TensorMap<HostTensor>,
  options: WriteSafetensorsOptions = {},
): Uint8Array<ArrayBuffer> {
  const chunks = [...safetensorsChunks(tensors, options)];
  const bytes = new Uint8Array(chunks.reduce((total, chunk) => total + chunk.length, 0));
  let position = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, position);
    position += chunk.length;
  }
  return bytes;
}

function encodeHeader(header: [string, unknown][]): Uint8Array<ArrayBuffer> {
  // Member by member, since an object would move names such as "0" to the front.
  const members = header.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  const json = new TextEncoder().encode(`{${members.join(",")}}`);
  const length = Math.ceil(json.length / ALIGNMENT) * ALIGNMENT;
  if (length > MAX_HEADER_BYTES) {
    throw new InvalidArgumentError(
      `safetensors: the header would have ${length} bytes, the format's limit is ${MAX_HEADER_BYTES}. Write several files.`,
    );
  }
  const bytes = new Uint8Array(8 + length).fill(0x20, 8); // padded with spaces
  new DataView(bytes.buffer).setUint32(0, length, true);
  bytes.set(json, 8);
  return bytes;
}

function encode(name: string, data: HostData, dtype: SafetensorsDType): Uint8Array<ArrayBuffer> {
  const stored =
    data instanceof Float32Array && dtype === "F16"
      ? encodeFloat16Checked(`safetensors: the tensor "${name}"`, data)
      : data instanceof Float32Array && dtype === "BF16"
        ? encodeBfloat16(data)
        : data;
  return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
}

/** `bytes` is read only; the result has memory of its own. */
function decodeTensor(name: string, { dtype, shape }: SafetensorsInfo, bytes: Uint8Array): HostTensor {
  const data = allocate(name, dtype, sizeOf(shape));
  if (isStoredAsIs(dtype)) {
    const memory = new Uint8Array(data.buffer);
    memory.set(bytes);
    if (dtype === "BOOL") checkBooleans(name, memory);
  } else decode(name, dtype, bytes, data, 0);
  return new HostTensor(shape, data);
}

/** Element types whose bytes in the file are those in memory. */
function isStoredAsIs(dtype: SafetensorsDType): dtype is "F32" | "I32" | "BOOL" {
  return dtype === "F32" || dtype === "I32" || dtype === "BOOL";
}

function allocate(name: string, dtype: SafetensorsDType, size: number): HostData {
  switch (dtype) {
    case "F32":
    case "F16":
    case "BF16":
    case "F8_E4M3":
    case "F8_E5M2":
    case "F64":
      return new Float32Array(size);
    case "I64":
    case "I32":
    case "I16":
    case "I8":
    case "U16":
    case "U8":
      return new Int32Array(size);
    case "BOOL":
      return new Uint8Array(size);
    default:
      throw new SdxsError(
        "UNSUPPORTED_OPERATION",
        `safetensors: the tensor "${name}" has the type ${dtype}, which is not read. Convert it to F32 or I32 first.`,
      );
  }
}

/** Elements of `bytes` into `data`, from its element `at` on. */
function decode(name: string, dtype: SafetensorsDType, bytes: Uint8Array, data: HostData, at: number): void {
  const { buffer, byteOffset } = bytes.byteOffset % BYTES_PER_ELEMENT[dtype] === 0 ? bytes : new Uint8Array(bytes);
  const length = bytes.length / BYTES_PER_ELEMENT[dtype];
  const floats = (): Float32Array<ArrayBuffer> => data.subarray(at, at + length) as Float32Array<ArrayBuffer>;
  switch (dtype) {
    case "F16":
      decodeFloat16(new Uint16Array(buffer, byteOffset, length), floats());
      break;
    case "BF16":
      decodeBfloat16(new Uint16Array(buffer, byteOffset, length), floats());
      break;
    case "F8_E4M3":
    case "F8_E5M2":
      decodeFloat8(dtype, bytes, floats());
      break;
    case "F64":
      data.set(new Float64Array(buffer, byteOffset, length), at);
      break;
    case "I64":
      narrowInt64(name, new Int32Array(buffer, byteOffset, 2 * length), data, at);
      break;
    case "I16":
      data.set(new Int16Array(buffer, byteOffset, length), at);
      break;
    case "I8":
      data.set(new Int8Array(buffer, byteOffset, length), at);
      break;
    case "U16":
      data.set(new Uint16Array(buffer, byteOffset, length), at);
      break;
    case "U8":
      data.set(bytes, at);
      break;
    default:
      throw new Error(`unreachable: ${dtype} is not converted`);
  }
}

function checkBooleans(name: string, bytes: Uint8Array): void {
  const wrong = bytes.find((byte) => byte > 1);
  if (wrong !== undefined) {
    throw new MalformedFileError(`safetensors: the BOOL tensor "${name}" holds the byte ${wrong}, not 0 or 1.`);
  }
}

/** `halves`: lower and upper 32 bits in turn. */
function narrowInt64(name: string, halves: Int32Array, values: HostData, at: number): void {
  for (let i = 0; i < halves.length / 2; i++) {
    const low = halves[2 * i]!;
    if (halves[2 * i + 1] !== low >> 31) {
      const value = BigInt(halves[2 * i + 1]!) * 2n ** 32n + BigInt(low >>> 0);
      throw new SdxsError(
        "UNSUPPORTED_OPERATION",
        `safetensors: the I64 tensor "${name}" holds ${value} at position ${at + i}, which does not fit int32.`,
      );
    }
    values[at + i] = low;
  }
}

async function readExactly(
  source: RandomAccessSource,
  offset: number,
  into: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array> {
  const bytes = await source.read(offset, into.length, into);
  if (bytes.length !== into.length) {
    throw new MalformedFileError(
      `safetensors: expected ${into.length} bytes from byte ${offset} on, the source gave ${bytes.length}. ` +
        `The file changed while it was read, or the connection broke.`,
    );
  }
  return bytes;
}

function parseHeaderText(bytes: Uint8Array): Record<string, unknown> {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new MalformedFileError("safetensors: the header is not JSON in UTF-8. Is this a safetensors file?", {
      cause,
    });
  }
  checkJsonStructure(text);
  const header = parseJson(text, "safetensors: the header");
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw new MalformedFileError("safetensors: the header must be a JSON object.");
  }
  return header as Record<string, unknown>;
}

/**
 * What `JSON.parse` does not report: whether an object names a member twice (it keeps the last); and what no valid
 * header has and could cost far more memory than its text: deep nesting, long lists, very many objects.
 */
function checkJsonStructure(text: string): void {
  const open: { readonly names: Set<string> | undefined; commas: number }[] = []; // names of an object, none of a list
  let objects = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    const innermost = open.at(-1);
    if (character === "{" || character === "[") {
      // {"name": {"shape": [...]}}
      if (open.length === 3) {
        throw new MalformedFileError("safetensors: the header is nested more deeply than the format.");
      }
      open.push({ names: character === "{" ? new Set() : undefined, commas: 0 });
      // Beside the root and the metadata: the shortest tensor, ,"":{"dtype":"U8","shape":[],"data_offsets":[0,0]}
      if (character === "{" && ++objects > 2 + text.length / 50) {
        throw new MalformedFileError("safetensors: the header has more objects than tensors could fit.");
      }
    } else if (character === "}" || character === "]") {
      open.pop();
    } else if (character === "," && innermost !== undefined) {
      innermost.commas++;
      if (innermost.names === undefined && innermost.commas > MAX_AXES) {
        throw new MalformedFileError(`safetensors: the header has a list of more than ${MAX_AXES + 1} elements.`);
      }
    } else if (character === '"') {
      const start = i;
      for (i++; i < text.length && text[i] !== '"'; i++) if (text[i] === "\\") i++;
      let next = i + 1;
      while (next < text.length && " \t\n\r".includes(text[next]!)) next++;
      if (innermost?.names === undefined || text[next] !== ":") continue;
      const name = parseJson(text.slice(start, i + 1), "safetensors: a name in the header") as string;
      if (innermost.names.has(name)) {
        throw new MalformedFileError(`safetensors: the header has ${quote(name)} twice in one object.`);
      }
      innermost.names.add(name);
    }
  }
}

/** For messages: of a hostile file's texts only the beginning. */
function quote(value: unknown): string {
  const text = value === undefined ? "undefined" : JSON.stringify(value);
  return text.length <= 200 ? text : `${text.slice(0, 200)}... (${text.length} characters)`;
}

function checkMetadata(entry: unknown): Record<string, string> {
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) {
    throw new MalformedFileError(`safetensors: "__metadata__" must be an object of texts.`);
  }
  for (const [key, value] of Object.entries(entry)) {
    if (typeof value !== "string") {
      throw new MalformedFileError(`safetensors: the metadata ${quote(key)} must be a text, got ${typeof value}.`);
    }
  }
  return entry as Record<string, string>;
}

function checkEntry(name: string, entry: unknown, dataStart: number, fileSize: number): SafetensorsInfo {
  const fail = (problem: string): never => {
    throw new MalformedFileError(`safetensors: the tensor ${quote(name)} ${problem}.`);
  };
  if (typeof entry !== "object" || entry === null) return fail("must be described by an object");
  const { dtype, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  if (typeof dtype !== "string" || !Object.hasOwn(BYTES_PER_ELEMENT, dtype)) {
    return fail(`has the element type ${quote(dtype)}; known are ${Object.keys(BYTES_PER_ELEMENT).join(", ")}`);
  }
  if (!isNaturalNumbers(shape)) return fail(`needs a "shape" of whole numbers`);
  if (shape.length > MAX_AXES) return fail(`has ${shape.length} axes; at most ${MAX_AXES} are accepted`);
  const [begin, end, ...rest] = isNaturalNumbers(offsets) ? offsets : [];
  if (begin === undefined || end === undefined || rest.length > 0) {
    return fail(`needs "data_offsets" of two whole numbers`);
  }
  if (begin > end) return fail(`ends at byte ${end}, before it begins at ${begin}`);
  if (end > fileSize - dataStart) {
    return fail(
      `ends at byte ${end}, beyond the file's ${fileSize - dataStart} bytes of data; the file is cut off: fetch it again`,
    );
  }
  let elements = 1;
  for (const size of shape) {
    elements *= size;
    if (!Number.isSafeInteger(8 * elements)) return fail(`is larger than any file: [${shape.join(", ")}]`);
  }
  const expected = elements * BYTES_PER_ELEMENT[dtype as SafetensorsDType];
  if (expected !== end - begin) {
    return fail(`has ${end - begin} bytes; ${dtype} of shape [${shape.join(", ")}] needs ${expected}`);
  }
  return { dtype: dtype as SafetensorsDType, shape, offset: dataStart + begin, length: end - begin };
}

function isNaturalNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}
