import { beforeAll, describe, expect, it } from "vitest";
import { attention } from "./functional.js";
import { HostTensor } from "../core/host-tensor.js";
import type { Program } from "../core/program.js";
import { random } from "../core/random.js";
import { maxAbsError, testBackends, type RunOnce } from "../testing.js";

describe.each(testBackends)("attention on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  const [batch, heads, tokens, contextTokens, features] = [2, 3, 37, 5, 8];
  const inputs = {
    query: random(1).normal([batch, heads, tokens, features]),
    key: random(2).normal([batch, heads, contextTokens, features]),
    value: random(3).normal([batch, heads, contextTokens, features]),
  };
  const scoresOfOneQuery = batch * heads * contextTokens;
  const attended = async (mostScores?: number, mask?: HostTensor): Promise<HostTensor> => {
    const program: Program<"query" | "key" | "value" | "mask", "y"> = (ops, _, given) => ({
      y: attention(ops, given.query, given.key, given.value, 0.3, mask && given.mask, mostScores),
    });
    return (await run(program, {}, { ...inputs, mask: mask ?? HostTensor.scalar(0) })).y;
  };

  it.each([
    ["without a mask", undefined],
    ["with a mask for each query", random(4).normal([tokens, contextTokens])],
    ["with a mask for all queries", random(5).normal([batch, 1, 1, contextTokens])],
    ["with a mask of keys alone", random(6).normal([contextTokens])],
  ])("of some queries at a time is that of all at once, %s", async (_, mask) => {
    const whole = await attended(undefined, mask);
    expect(whole.shape).toEqual([batch, heads, tokens, features]);
    // Blocks of 10, 10, 10 and 7 queries; of one; and no fewer than one.
    for (const mostScores of [10.9 * scoresOfOneQuery, scoresOfOneQuery, 1]) {
      expect(maxAbsError(await attended(mostScores, mask), whole)).toBeLessThan(1e-6);
    }
  });
});
