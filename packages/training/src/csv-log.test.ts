import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { csvLog } from "./csv-log.js";

let directory: string;
let path: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "metrics-"));
  path = join(directory, "run", "metrics.csv");
});
afterEach(() => rm(directory, { recursive: true }));

describe("csvLog", () => {
  it("writes one line per step with numbers in full precision", async () => {
    const log = csvLog(path);
    await log.truncate(0);
    await log.append({ step: 1, metrics: { loss: 0.1, rate: 1e-7 } });
    await log.append({ step: 2, metrics: { rate: Math.fround(0.1), loss: NaN } });
    expect(await readFile(path, "utf8")).toBe("step,loss,rate\n1,0.1,1e-7\n2,NaN,0.10000000149011612\n");
    expect(await log.rows()).toEqual([
      { step: 1, metrics: { loss: 0.1, rate: 1e-7 } },
      { step: 2, metrics: { loss: NaN, rate: Math.fround(0.1) } },
    ]);
  });

  it("adds a column for a metric that appears later and leaves fields empty", async () => {
    const log = csvLog(path);
    await log.append({ step: 1, metrics: { loss: 1 } });
    await log.append({ step: 2, metrics: { loss: 2, "validation.error": 5 } });
    await log.append({ step: 3, metrics: { loss: 3 } });
    expect(await readFile(path, "utf8")).toBe("step,loss,validation.error\n1,1,\n2,2,5\n3,3,\n");
    expect((await log.rows())[2]).toEqual({ step: 3, metrics: { loss: 3 } });
  });

  it("goes on in a new process after the step that it is cut at, and drops a half-written line", async () => {
    const before = csvLog(path);
    for (const step of [1, 2, 3]) await before.append({ step, metrics: { loss: step } });
    await appendFile(path, "4,0.");
    const after = csvLog(path);
    expect(await after.rows()).toHaveLength(3);
    await after.truncate(2);
    await after.append({ step: 3, metrics: { loss: 30 } });
    expect(await readFile(path, "utf8")).toBe("step,loss\n1,1\n2,2\n3,30\n");
  });

  it("reads a missing file as an empty history", async () => {
    expect(await csvLog(path).rows()).toEqual([]);
  });

  it("does not touch a file that is no such history", async () => {
    const foreign = join(directory, "notes.csv");
    await writeFile(foreign, "name,age\nAda,36\n");
    await expect(csvLog(foreign).truncate(0)).rejects.toMatchObject({ code: "MALFORMED_FILE" });
    expect(await readFile(foreign, "utf8")).toBe("name,age\nAda,36\n");
  });

  it("says which file it cannot write", async () => {
    await writeFile(join(directory, "run"), "a file where the folder should be");
    const failure = { code: "FILE_FAILURE", message: expect.stringContaining(path) };
    await expect(csvLog(path).append({ step: 1, metrics: { loss: 1 } })).rejects.toMatchObject(failure);
  });

  it("refuses names that would break the format", async () => {
    const broken = csvLog(path).append({ step: 1, metrics: { "loss, total": 1 } });
    await expect(broken).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});
