import { imageServer, type ImageServer } from "@sdxs/cli";
import { HostTensor } from "@sdxs/tensor";
import { afterEach, expect, it } from "vitest";
import { loadServer } from "./server-load.js";

let server: ImageServer;
afterEach(() => server.close(0));

/** A server whose pictures are grey, of a shade that the seed and the number of pictures before decide. */
async function grey(shade: (seed: number, drawn: number) => number): Promise<string> {
  let drawn = 0;
  server = imageServer({
    pipeline: {
      generate: async (_prompts, options) => ({
        images: HostTensor.filled([1, 3, 8, 8], shade(Number(options?.seed), drawn++)),
        times: { textEncoder: 0, unet: 0, decoder: 0 },
        warnings: [],
      }),
    },
    sizes: [{ width: 8, height: 8 }],
    maxWaiting: 100,
  });
  return (await server.listen(0)).url;
}

it("loadServer accounts for every request", async () => {
  const url = await grey((seed) => seed / 20);
  const seen: number[] = [];
  const onDone = async (done: number): Promise<void> => void seen.push(done);
  const { outcomes, failures } = await loadServer(url, { requests: 100, atOnce: 10, onDone });
  expect(failures).toEqual([]);
  expect(outcomes).toMatchObject({ "picture drawn": 40, "wrong request answered by 400": 9 });
  expect(outcomes["wrong request answered by 413"]).toBe(1);
  expect(Object.values(outcomes).reduce((sum, count) => sum + count)).toBe(100);
  expect(seen).toEqual(Array.from({ length: 100 }, (_, index) => index + 1));
});

it("loadServer tells of a picture that another client should have got", async () => {
  const url = await grey((_seed, drawn) => drawn / 100);
  const { failures } = await loadServer(url, { requests: 30, atOnce: 1 });
  expect(failures[0]).toMatch(/"seed":3} gave another picture than before/);
});
