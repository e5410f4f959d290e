import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { pictureLog } from "./picture-log.js";
import { train } from "./train.js";
import type { TrainingTask } from "./training-task.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pictures-"));
});
afterEach(() => rm(folder, { recursive: true }));

const task: TrainingTask = {
  name: "nothing",
  steps: 5,
  step: async () => ({ loss: 0 }),
  state: async () => ({}),
  restore() {},
  dispose() {},
};
const draw = (step: number): Uint8Array => Uint8Array.of(step);

describe("pictureLog", () => {
  it("writes an image every `everySteps` steps and after the last", async () => {
    const pictures = join(folder, "run", "pictures");
    await train(task, { validate: { everySteps: 2, run: pictureLog({ folder: pictures, draw }) } });
    expect((await readdir(pictures)).sort()).toEqual([2, 4, 5].map((step) => `step-00000000${step}.png`));
    expect([...(await readFile(join(pictures, "step-000000004.png")))]).toEqual([4]);
  });

  it("keeps the newest images, replaces one that is generated again and leaves other files alone", async () => {
    await writeFile(join(folder, "step-notes.jpg"), "");
    const log = pictureLog({ folder, draw, keep: 2, extension: "jpg" });
    for (const step of [1, 2, 3]) await log(step);
    await pictureLog({ folder, draw: () => Uint8Array.of(9), keep: 2, extension: "jpg" })(3);
    expect((await readdir(folder)).sort()).toEqual(["step-000000002.jpg", "step-000000003.jpg", "step-notes.jpg"]);
    expect([...(await readFile(join(folder, "step-000000003.jpg")))]).toEqual([9]);
  });

  it("refuses to keep nothing, and names a folder that it cannot make", async () => {
    expect(() => pictureLog({ folder, draw, keep: 0 })).toThrow("keep must be a whole number of at least 1, got 0");
    await writeFile(join(folder, "file"), "");
    const blocked = pictureLog({ folder: join(folder, "file", "pictures"), draw })(1);
    await expect(blocked).rejects.toMatchObject({ code: "FILE_FAILURE" });
  });
});
