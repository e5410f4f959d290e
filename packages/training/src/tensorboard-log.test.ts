import { mkdtemp, readFile, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { joinLogs, memoryLog } from "./index.js";
import { tensorBoardLog } from "./node.js";

// The events of the first test as written by TensorBoard 2.21.0: its RecordWriter and protocol buffers.
const WRITTEN_BY_TENSORBOARD =
  "GAAAAAAAAACjf0siCQAAEED8VNlBGg1icmFpbi5FdmVudDoyM40v6Q8AAAAAAAAAbVMrCQkAABBA/FTZQRABOgIIAdFhwrnJAAAAAAAAADU9xs4J" +
  "AAAQQPxU2UEQgOSX0BIqtwEKCwoEbG9zcxXNzMw9ChsKFGRlY29kZXIuZ3JhZGllbnROb3JtFQAAwH8KigEKggF4eHh4eHh4eHh4eHh4eHh4eHh4" +
  "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4" +
  "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4FQAAIMBNGUMw";

let folder: string;
let events: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "events-"));
  events = join(folder, "run", "events");
  vi.useFakeTimers({ toFake: ["Date"], now: 1_700_000_000_250 });
});
afterEach(async () => {
  vi.useRealTimers();
  await rm(folder, { recursive: true });
});

const filesOf = async (folder: string): Promise<string[]> =>
  (await readdir(folder)).sort().map((name) => join(folder, name));

/** A protocol buffer message's fields: numbers as read, 64-bit floats of field 1, 32-bit floats, and bytes. */
function* fieldsOf(bytes: Buffer): Generator<[field: number, value: number | Buffer]> {
  let at = 0;
  const varint = (): number => {
    for (let value = 0, factor = 1; ; factor *= 128) {
      const byte = bytes.readUInt8(at++);
      value += (byte % 128) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const type = key % 8;
    const size = type === 1 ? 8 : type === 5 ? 4 : type === 2 ? varint() : 0;
    const content = bytes.subarray(at, (at += size));
    yield [Math.floor(key / 8), type === 0 ? varint() : type === 5 ? content.readFloatLE() : content];
  }
}

type Scalar = [step: number, tag: string, value: number];

/** The scalars that TensorBoard shows of a folder: files in order, each until a record is cut off; a session's start voids later steps. */
async function scalarsOf(folder: string): Promise<Scalar[]> {
  let scalars: Scalar[] = [];
  for (const path of await filesOf(folder)) {
    const bytes = await readFile(path);
    for (let at = 0; at + 12 <= bytes.length;) {
      const end = at + 12 + Number(bytes.readBigUInt64LE(at));
      if (end + 4 > bytes.length) break;
      const event = new Map(fieldsOf(bytes.subarray(at + 12, end)));
      const step = event.get(2) as number;
      const summary = event.get(5) as Buffer | undefined;
      if (event.has(7)) scalars = scalars.filter(([earlier]) => earlier < step);
      for (const [, value] of summary ? fieldsOf(summary) : []) {
        const { 1: tag, 2: number } = Object.fromEntries(fieldsOf(value as Buffer));
        scalars.push([step, String(tag), number as number]);
      }
      at = end + 4;
    }
  }
  return scalars;
}

describe("tensorBoardLog", () => {
  it("writes what TensorBoard writes", async () => {
    const log = tensorBoardLog(events);
    await log.truncate(0);
    await log.append({
      step: 5_000_000_000,
      metrics: { loss: 0.1, "decoder.gradientNorm": NaN, ["x".repeat(130)]: -2.5 },
    });
    const [path, ...others] = await filesOf(events);
    expect(others).toEqual([]);
    expect(path).toMatch(/events\.out\.tfevents\.1700000000250\./);
    expect((await readFile(path!)).toString("base64")).toBe(WRITTEN_BY_TENSORBOARD);
  });

  it("goes on in a new process after the step that it is cut at, whatever a killed one left", async () => {
    const before = tensorBoardLog(events);
    for (const step of [1, 2, 3, 4]) await before.append({ step, metrics: { loss: step, rate: 0.5 } });
    const [path] = await filesOf(events);
    const { length } = await readFile(path!);
    await truncate(path!, length - 5);
    vi.setSystemTime(1_700_000_001_000);
    const after = tensorBoardLog(events);
    await after.truncate(2);
    await after.append({ step: 3, metrics: { loss: 30 } });
    expect(await scalarsOf(events)).toEqual([
      [1, "loss", 1],
      [1, "rate", 0.5],
      [2, "loss", 2],
      [2, "rate", 0.5],
      [3, "loss", 30],
    ]);
  });

  it("says which folder it cannot write", async () => {
    await writeFile(join(folder, "run"), "a file where the folder should be");
    const failure = { code: "FILE_FAILURE", message: expect.stringContaining(events) };
    await expect(tensorBoardLog(events).truncate(0)).rejects.toMatchObject(failure);
  });
});

describe("joinLogs", () => {
  it("gives every log all rows", async () => {
    const memory = memoryLog();
    const log = joinLogs(memory, tensorBoardLog(events));
    for (const step of [1, 2]) await log.append({ step, metrics: { loss: step / 4 } });
    await log.truncate(1);
    expect(await memory.rows()).toEqual([{ step: 1, metrics: { loss: 0.25 } }]);
    expect(await scalarsOf(events)).toEqual([[1, "loss", 0.25]]);
  });
});
