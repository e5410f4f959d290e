import { mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HostTensor, type TensorMap } from "@sdxs/tensor";
import { writeSafetensorsFile } from "@sdxs/tensor/node";
import { golden } from "./golden.js";

/** Squares of the differences are 1 and 9. */
const io: TensorMap<HostTensor> = {
  "l1ds.x": HostTensor.from([2, 1, 1, 1], [1, 2]),
  "l1ds.y": HostTensor.from([2, 1, 1, 1], [2, 5]),
  "mse.out": HostTensor.from([1], [5]),
};

describe("npm run golden", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "sdxs-golden-"));
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function writeCase(name: string, tensors = io, meta: object = {}): Promise<string> {
    const path = join(folder, name);
    await mkdir(path);
    await writeSafetensorsFile(join(path, "io.safetensors"), tensors);
    await writeFile(join(path, "meta.json"), JSON.stringify(meta));
    return path;
  }

  async function run(...args: string[]): Promise<{ code: number; lines: string[] }> {
    const lines: string[] = [];
    const code = await golden(args, (line) => lines.push(...line.split("\n")));
    return { code, lines: lines.map((line) => line.trim().replace(/ +/g, " ")) };
  }

  it("gives the worst error of each case and backend beside its tolerance, and 0", async () => {
    await writeCase("losses");
    await writeFile(join(folder, "README.md"), "no case");
    expect(await run(folder)).toEqual({
      code: 0,
      lines: [
        "ok losses onnx outputs 0.0e+0 of 5.0e-4",
        "ok losses tfjs-wasm outputs 0.0e+0 of 5.0e-4",
        "2 ok, 0 failed",
      ],
    });
    expect((await run(folder, "--backends", "onnx")).lines).toHaveLength(2);
  });

  it("names the tensor that is wrong and what differs, and gives 1", async () => {
    await writeCase("losses", { ...io, "mse.out": HostTensor.from([1], [6]) });
    await writeCase("losses_2");
    const { code, lines } = await run(folder, "--backends", "onnx");
    expect(code).toBe(1);
    expect(lines).toEqual([
      "FAIL losses onnx outputs 1.0e+0 of 6.0e-4",
      "mse.out: off by 1.0e+0, at most 6.0e-4; 5 instead of 6 at [0]",
      "ok losses_2 onnx outputs 0.0e+0 of 5.0e-4",
      "1 ok, 1 failed",
    ]);
  });

  it("fails for a case of an unknown kind, a tensor that nothing compares and a case of none", async () => {
    await writeCase("unheard_of");
    await writeCase("losses", { ...io, "novel.out": HostTensor.scalar(1) });
    await writeCase("losses_2", {});
    const { code, lines } = await run(folder, "--backends", "onnx");
    expect(code).toBe(1);
    expect(lines).toEqual([
      "FAIL losses onnx outputs 0.0e+0 of 5.0e-4",
      "novel.out: no check",
      "FAIL losses_2 onnx",
      "there is nothing to compare",
      "FAIL unheard_of - no check for a case of this name",
      "0 ok, 3 failed",
    ]);
  });

  it("names a file that is cut off or missing, and goes on", async () => {
    await truncate(join(await writeCase("losses_1"), "io.safetensors"), 100);
    await writeCase("losses_2", io, { files: { "io.safetensors": 7 } });
    await rm(join(await writeCase("losses_3"), "io.safetensors"));
    await writeCase("losses_4");
    await writeFile(join(folder, "losses_4", "meta.json"), "{");
    await writeCase("losses_5", io, { files: { "weights.safetensors": 7 } });
    await writeCase("losses_6");
    await mkdir(join(folder, "full_models"));
    await writeFile(join(folder, "full_models", "a.json.gz"), "{}");
    const { code, lines } = await run(folder, "--backends", "onnx");
    expect(code).toBe(1);
    expect(lines).toEqual([
      expect.stringMatching(/^FAIL full_models - .*a\.json\.gz: incorrect header check$/),
      expect.stringMatching(/^FAIL losses_1 onnx .*io\.safetensors: safetensors: .* cut off/),
      expect.stringMatching(/^FAIL losses_2 onnx io\.safetensors has \d+ bytes, meta\.json lists 7/),
      expect.stringMatching(/^FAIL losses_3 onnx There is no file at .*io\.safetensors/),
      expect.stringMatching(/^FAIL losses_4 onnx .*meta\.json: /),
      "FAIL losses_5 onnx weights.safetensors is missing.",
      "ok losses_6 onnx outputs 0.0e+0 of 5.0e-4",
      "1 ok, 6 failed",
    ]);
  });

  it("says what is wrong with its arguments, and gives 2", async () => {
    const nowhere = await run(join(folder, "nowhere"));
    expect(nowhere.code).toBe(2);
    expect(nowhere.lines[0]).toMatch(/^golden: DIR must be a folder of cases: .*no such file or directory/);
    expect((await run(folder)).lines[0]).toMatch(/^golden: DIR holds no folder/);
    expect((await run(folder, folder)).lines[0]).toMatch(/^golden: one folder is expected/);
    expect((await run(folder, "--backends", "cuda")).lines[0]).toMatch(/onnx and tfjs-wasm, .*got "cuda"/);
    expect((await run(folder, "--quick")).lines[0]).toMatch(/--quick/);
  });
});
