import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as ort from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import type { HostTensor } from "@sdxs/tensor";
import { readJsonFile, readSafetensorsFile } from "@sdxs/tensor/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { expectClose } from "./pipeline-case.test-support.js";
import { loadPipelineFolder } from "../checkpoints/pipeline-folder.js";
import { createPipeline } from "./pipeline.js";

/** What diffusers was asked for, and drew: see make.py there. */
interface PictureCase {
  readonly name: string;
  readonly prompts: readonly string[];
  readonly steps: number;
  readonly guidance: number;
  readonly negative?: string;
  readonly size?: readonly [height: number, width: number];
  readonly strength?: number;
  readonly scales?: readonly number[];
  readonly guess?: boolean;
}

const fixtures = process.env["SDXS_PIPELINES"] ?? fileURLToPath(new URL("../../fixtures/pipelines/", import.meta.url));
const families = readdirSync(fixtures).filter((name) => existsSync(join(fixtures, name, "cases.json")));

describe.each(families)("a pipeline that diffusers saved draws what diffusers draws: %s", (family) => {
  it("in every case", async () => {
    const folder = join(fixtures, family);
    const cases = (await readJsonFile(join(folder, "cases.json"))) as readonly PictureCase[];
    const { tensors: io } = await readSafetensorsFile(join(folder, "io.safetensors"));
    const { components } = await loadPipelineFolder(folder, { purpose: "text-to-image" });
    const pipeline = createPipeline({ components, backend: onnxBackend({ ort, threads: 1 }) });
    for (const [index, { name, prompts, steps, guidance, ...asked }] of cases.entries()) {
      const tensor = (key: string): HostTensor => io[`${index}.${key}`]!;
      const [height = 8, width = 8] = asked.size ?? [];
      const { images } = await pipeline.generate(prompts, {
        noise: tensor("noise"),
        steps,
        guidanceScale: guidance,
        height,
        width,
        ...(asked.negative != null && { negativePrompt: asked.negative }),
        ...(asked.strength !== undefined && { strength: asked.strength, image: tensor("image") }),
        ...(asked.scales && {
          controls: asked.scales.map((scale, control) => ({ image: tensor(`control.${control}`), scale })),
        }),
        ...(asked.guess !== undefined && { guessMode: asked.guess }),
      });
      expect(() => expectClose(images, tensor("images")), name).not.toThrow();
    }
    await pipeline.dispose();
  });
});
