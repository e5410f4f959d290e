import * as tf from "@tensorflow/tfjs";
import * as wasm from "@tensorflow/tfjs-backend-wasm";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { conformanceCases, fromBackend, runCase } from "./conformance.js";
import { tfjsBackend } from "./tfjs.js";

const wasmFolder = dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm"));
wasm.setWasmPaths(join(wasmFolder, "/"));

const cases = conformanceCases().map((one) => [one.name, one] as const);

describe.each(["cpu", "wasm"] as const)("tfjs-%s conforms", async (name) => {
  const adapter = fromBackend(await tfjsBackend({ tf, backend: name }));

  test.each(cases)("%s", async (_name, one) => {
    expect(await runCase(adapter, one)).toMatchObject({ ok: true, message: "" });
  });
});
