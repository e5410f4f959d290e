import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HostTensor, random } from "@sdxs/tensor";
import { latentPool, type LatentPool } from "./latent-pool.js";

let folder: string;
let computed: number[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "latent-pool-"));
  computed = [];
});
afterEach(() => rm(folder, { recursive: true }));

/** Scene n has the latent [n] and two captions, [n, 0] and [n, 1]. */
const open = (): LatentPool =>
  latentPool({
    folder,
    key: "test",
    pieceSize: 4,
    firstPieces: 2,
    pieces: 3,
    stepsPerPiece: 10,
    compute: async (first, count) => {
      computed.push(first);
      const scenes = Array.from({ length: count }, (_, i) => first + i);
      return {
        latents: HostTensor.from([count, 1], scenes),
        ids: new HostTensor([count, 2, 2], Int32Array.from(scenes.flatMap((scene) => [scene, 0, scene, 1]))),
      };
    },
  });

describe("latentPool", () => {
  it("gives scenes of a window that moves along with the steps, each with one of its captions", async () => {
    const pool = open();
    for (const [step, first, last] of [
      [0, 0, 7],
      [9, 0, 7],
      [10, 0, 11],
      [20, 4, 15],
      [50, 16, 27],
    ] as const) {
      const { latents, ids } = await pool.batch(step, 200, random(step));
      expect([...new Set(latents.data)].sort((a, b) => a - b)).toEqual(
        Array.from({ length: last - first + 1 }, (_, i) => first + i),
      );
      expect(ids.shape).toEqual([200, 2]);
      const captions = Array.from(latents.data, (scene, row) => {
        expect(ids.data[2 * row]).toBe(scene);
        return ids.data[2 * row + 1];
      });
      expect(new Set(captions)).toEqual(new Set([0, 1]));
    }
  });

  it("gives the same at the same step, whatever came before, and computes nothing twice", async () => {
    const pool = open();
    await pool.batch(0, 50, random(0));
    const first = await pool.batch(15, 50, random(1));
    const before = [...computed];
    expect(await open().batch(15, 50, random(1))).toEqual(first);
    expect(computed).toEqual(before);
  });

  it("removes the files of pieces that it has left behind", async () => {
    const pool = open();
    await pool.batch(0, 50, random(0));
    await pool.batch(40, 50, random(0));
    expect((await readdir(folder)).sort()).toEqual(["3", "4", "5"]);
  });
});
