import { expect, it } from "vitest";
import { sdxs } from "./sdxs.test-support.js";

it.each([[[]], [["--help"]]])("lists its commands for %j", async (args) => {
  const { exitCode, out } = await sdxs(args);
  expect(exitCode).toBe(0);
  expect(out.join("\n")).toMatch(/^sdxs COMMAND/);
});

it("explains a command", async () => {
  expect(await sdxs(["generate", "--help"])).toMatchObject({
    exitCode: 0,
    out: [expect.stringMatching(/^sdxs generate MODEL/)],
  });
});

it.each(["paint", "toString"])("refuses %s, which is no command", async (name) => {
  const { exitCode, notes } = await sdxs([name]);
  expect(exitCode).toBe(2);
  expect(notes).toEqual([expect.stringMatching(`^sdxs: INVALID_ARGUMENT: Expected a command .*, got "${name}"`)]);
});
