import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { mkdtemp, readFile, readdir, rename, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { HostTensor } from "../core/host-tensor.js";
import { random } from "../core/random.js";
import type { TensorMap } from "../core/ops.js";
import { openCheckpoint, writeCheckpoint, type OpenCheckpointOptions } from "./checkpoint.js";
import { openSafetensorsFile, writeSafetensorsFile } from "./files.js";

const root = mkdtempSync(join(tmpdir(), "sdxs-checkpoint-"));
afterAll(() => rmSync(root, { recursive: true }));

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(root, "model-"));
  path = join(folder, "diffusion_pytorch_model");
});

// 40, 400, 4 and 40 bytes in float32.
const weights = {
  "conv_in.weight": random(1).normal([10]),
  "mid.weight": random(2).normal([10, 10]),
  "mid.bias": random(3).normal([1]),
  "conv_out.weight": random(4).normal([10]),
};
const index = "diffusion_pytorch_model.safetensors.index.json";
const shard = (number: number, count: number): string =>
  `diffusion_pytorch_model-0000${number}-of-0000${count}.safetensors`;

async function read(options: OpenCheckpointOptions = {}): Promise<TensorMap<HostTensor>> {
  const file = await openCheckpoint(path, options);
  const entries: [string, HostTensor][] = [];
  for (const name of file.names) entries.push([name, await file.read(name)]);
  await file.close();
  return Object.fromEntries(entries);
}

const json = async (name: string): Promise<unknown> => JSON.parse(await readFile(join(folder, name), "utf8"));

describe("writeCheckpoint", () => {
  it("writes one file that PyTorch's libraries accept, with the texts beside it", async () => {
    await writeCheckpoint(path, weights, { files: { "config.json": "{}" } });
    expect((await readdir(folder)).sort()).toEqual(["config.json", "diffusion_pytorch_model.safetensors"]);
    const file = await openSafetensorsFile(`${path}.safetensors`);
    expect(file.metadata).toEqual({ format: "pt" });
    await file.close();
    expect(await read()).toEqual(weights);
  });

  it("writes shards of at most the given size and their index, as huggingface_hub does", async () => {
    await writeCheckpoint(path, weights, { maxShardSize: 50 });
    expect((await readdir(folder)).sort()).toEqual([shard(1, 3), shard(2, 3), shard(3, 3), index].sort());
    expect(await json(index)).toEqual({
      metadata: { total_size: 484 },
      weight_map: {
        "conv_in.weight": shard(1, 3),
        "conv_out.weight": shard(3, 3),
        "mid.bias": shard(3, 3),
        "mid.weight": shard(2, 3), // larger than the limit, so alone
      },
    });
    expect(await read()).toEqual(weights);
  });

  it("counts sizes as stored", async () => {
    await writeCheckpoint(path, weights, { maxShardSize: 242, dtype: "F16" });
    expect(await readdir(folder)).toEqual(["diffusion_pytorch_model.safetensors"]);
    await writeCheckpoint(path, weights, { maxShardSize: 241, dtype: "BF16" });
    expect(await json(index)).toMatchObject({ metadata: { total_size: 242 } });
  });

  it("leaves nothing of the weights that were there before, and other files alone", async () => {
    const kept = ["diffusion_pytorch_model.fp16.safetensors", "notes.txt", "other.safetensors"];
    for (const name of kept) await writeFile(join(folder, name), "kept");
    await writeCheckpoint(path, weights, { maxShardSize: 50 });
    await writeCheckpoint(path, weights, { maxShardSize: 450 });
    expect((await readdir(folder)).sort()).toEqual([...kept, shard(1, 2), shard(2, 2), index].sort());
    await writeCheckpoint(path, weights);
    expect((await readdir(folder)).sort()).toEqual([...kept, "diffusion_pytorch_model.safetensors"].sort());
    expect(await read()).toEqual(weights);
  });

  it("leaves every file as it was where one cannot be written", async () => {
    const options = { maxShardSize: 450, files: { "config.json": "old" } };
    await writeCheckpoint(path, weights, options);
    const contents = async () =>
      Promise.all((await readdir(folder)).map(async (name) => [name, await readFile(join(folder, name))]));
    const before = await contents();
    const changed = { ...weights, "conv_in.weight": random(9).normal([10]), last: HostTensor.filled([200], 1e9) };
    await expect(
      writeCheckpoint(path, changed, { ...options, dtype: "F16", files: { "config.json": "new" } }),
    ).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(await contents()).toEqual(before);
  });

  it("refuses a shard size that is no positive number", async () => {
    for (const maxShardSize of [0, -1, NaN]) {
      await expect(writeCheckpoint(path, weights, { maxShardSize })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
      });
    }
  });
});

describe("openCheckpoint", () => {
  it("reads a variant where one is given, in a single file or under either name of an index", async () => {
    const half = { x: HostTensor.scalar(0.5) };
    await writeCheckpoint(path, weights);
    await writeSafetensorsFile(`${path}.fp16.safetensors`, half, { dtype: "F16" });
    expect(await read({ variant: "fp16" })).toEqual(half);
    expect(await read()).toEqual(weights);
    const names = [
      "diffusion_pytorch_model.safetensors.index.v.json",
      "diffusion_pytorch_model.safetensors.v.index.json",
    ];
    for (const name of names) {
      const map = { x: "diffusion_pytorch_model.fp16.safetensors" };
      await writeFile(join(folder, name), JSON.stringify({ weight_map: map }));
      expect(await read({ variant: "v" })).toEqual(half);
      await rm(join(folder, name));
    }
  });

  it("reads the only variant there is without being asked to, and asks where there are several", async () => {
    const half = { x: HostTensor.scalar(0.5) };
    await writeSafetensorsFile(`${path}.fp16.safetensors`, half, { dtype: "F16" });
    expect(await read()).toEqual(half);
    await writeSafetensorsFile(`${path}.non-ema.safetensors`, weights);
    await expect(read()).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: expect.stringContaining(
        'It has diffusion_pytorch_model.fp16.safetensors (variant: "fp16"), ' +
          'diffusion_pytorch_model.non-ema.safetensors (variant: "non-ema"): choose one',
      ),
    });
    expect(await read({ variant: "non-ema" })).toEqual(weights);

    await rm(`${path}.fp16.safetensors`);
    await rm(`${path}.non-ema.safetensors`);
    await writeCheckpoint(path, weights, { maxShardSize: 450 });
    const map = JSON.stringify(await json(index)).replaceAll(/model-(\d+-of-\d+)/g, "model.fp16-$1");
    for (const number of [1, 2]) {
      const name = shard(number, 2);
      await rename(join(folder, name), join(folder, name.replace("model-", "model.fp16-")));
    }
    await rm(join(folder, index));
    await writeFile(join(folder, "diffusion_pytorch_model.safetensors.index.fp16.json"), map);
    expect(await read()).toEqual(weights);
  });

  it("names every shard that is missing", async () => {
    await writeCheckpoint(path, weights, { maxShardSize: 50 });
    await rm(join(folder, shard(1, 3)));
    await rm(join(folder, shard(3, 3)));
    await expect(openCheckpoint(path)).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: `${join(folder, index)} names files that are not beside it:\n  ${shard(1, 3)}\n  ${shard(3, 3)}\nFetch them too.`,
    });
  });

  it("names a shard that is cut off", async () => {
    await writeCheckpoint(path, weights, { maxShardSize: 50 });
    const cut = join(folder, shard(2, 3));
    await truncate(cut, readFileSync(cut).length - 1);
    await expect(openCheckpoint(path)).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringMatching(/00002-of-00003\.safetensors: .*"mid\.weight".*cut off: fetch it again/),
    });
  });

  it("lists all tensors that the index finds in the wrong shard", async () => {
    await writeCheckpoint(path, weights, { maxShardSize: 50 });
    await rename(join(folder, shard(3, 3)), join(folder, shard(1, 3)));
    await writeSafetensorsFile(join(folder, shard(3, 3)), {});
    await expect(openCheckpoint(path)).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringContaining(
        `  conv_in.weight, in ${shard(1, 3)}\n  conv_out.weight, in ${shard(3, 3)}\n  mid.bias, in ${shard(3, 3)}\n`,
      ),
    });
  });

  it.each([
    ["no JSON", "{", /index\.json is not JSON/],
    ["no map", '{"weight_map": []}', /needs a "weight_map"/],
    ["a file elsewhere", '{"weight_map": {"x": "../x.safetensors"}}', /"x" is in "\.\.\/x\.safetensors"/],
    ["pickled shards", '{"weight_map": {"x": "x.bin"}}', /must be a \.safetensors file beside it/],
  ])("refuses an index with %s", async (_, text, message) => {
    await writeFile(join(folder, index), text);
    await expect(openCheckpoint(path)).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringMatching(message),
    });
  });

  it("says which weights there are in place of those that are missing", async () => {
    const wanted = "diffusion_pytorch_model.safetensors";
    await expect(openCheckpoint(join(folder, "no", "model"))).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: `There is no folder at ${join(folder, "no")}. Check the path.`,
    });
    await expect(openCheckpoint(path)).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: `${folder} has no ${wanted}. Fetch it, or check the path.`,
    });
    await writeFile(`${path}.bin`, "");
    await expect(openCheckpoint(path)).rejects.toMatchObject({
      code: "UNSUPPORTED_OPERATION",
      message: expect.stringMatching(/only diffusion_pytorch_model\.bin: .*safe_serialization=True/),
    });
    await writeFile(`${path}.safetensors`, "");
    await expect(openCheckpoint(path, { variant: "fp16" })).rejects.toMatchObject({
      message: expect.stringContaining("It has diffusion_pytorch_model.safetensors (no variant)"),
    });
  });
});
