import { expect, it } from "vitest";
import { turns } from "./turns.js";

const forever = new AbortController().signal;

/** A job that ends when it is told to. */
function job(name: string, log: string[]) {
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => (end = resolve));
  return {
    end,
    run: async () => {
      log.push(name);
      await ended;
      return name;
    },
  };
}

it("turns runs one job at a time, in the order of their coming, a failed one too", async () => {
  const line = turns();
  const log: string[] = [];
  const [a, b, c] = ["a", "b", "c"].map((name) => job(name, log));
  const results = [a!, b!, c!].map(({ run }, index) =>
    line.take(forever, async () => {
      await run();
      if (index === 1) throw new Error("b failed");
    }),
  );
  await Promise.resolve();
  expect([log, line.waiting(), line.running()]).toEqual([["a"], 2, true]);
  a!.end();
  await results[0];
  expect([log, line.waiting()]).toEqual([["a", "b"], 1]);
  b!.end();
  await expect(results[1]).rejects.toThrow("b failed");
  c!.end();
  await results[2];
  expect([log, line.waiting(), line.running()]).toEqual([["a", "b", "c"], 0, false]);
});

it("turns lets who no longer wants to wait leave at once", async () => {
  const line = turns();
  const log: string[] = [];
  const [a, b, c] = ["a", "b", "c"].map((name) => job(name, log));
  const leaving = new AbortController();
  const first = line.take(forever, a!.run);
  const second = line.take(leaving.signal, b!.run);
  const third = line.take(forever, c!.run);
  leaving.abort(new Error("gone"));
  await expect(second).rejects.toThrow("gone");
  expect(line.waiting()).toBe(1);
  a!.end();
  c!.end();
  expect(await Promise.all([first, third])).toEqual(["a", "c"]);
  expect(log).toEqual(["a", "c"]);
  await expect(line.take(leaving.signal, b!.run)).rejects.toThrow("gone");
  expect(line.running()).toBe(false);
});
