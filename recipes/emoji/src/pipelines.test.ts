import * as ort from "onnxruntime-node";
import { createPipeline } from "@sdxs/runtime";
import { initialize, type HostTensor } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { unetParameters } from "@sdxs/tiny-unet";
import { tinyDecoderParameters } from "@sdxs/tiny-vae";
import { expect, it } from "vitest";
import { encodePrompts, guidanceScale, studentPlan, teacherSampler, teacherSteps, type Student } from "./distil.js";
import { tinyDecoderConfig } from "./models.js";
import { studentPipeline, teacherPipeline } from "./pipelines.js";
import { randomTeacher } from "./random-teacher.test-support.js";
import { drawPictures } from "./report.js";

const backend = onnxBackend({ ort, threads: 1 });
const prompts = ["a red apple", "a pizza, flat style, on a green background"];

it("draws with pipelines what the report draws, by teacher and student, from the same noise", async () => {
  const teacher = await randomTeacher();
  const { config } = studentPlan(teacher);
  const student: Student = {
    unet: { config, params: initialize(unetParameters(config), 4) },
    decoder: initialize(tinyDecoderParameters(tinyDecoderConfig), 5),
  };
  const drawn = await drawPictures(backend, teacher, [{ label: "student", student }], prompts, 1);
  const sampler = await teacherSampler(backend, teacher, { steps: 1, batch: prompts.length, seed: "pictures 1" });
  const { noise } = await sampler.sample(await encodePrompts(backend, teacher, prompts), 0);
  await sampler.dispose();

  const byTeacher = createPipeline({ components: teacherPipeline(teacher), backend });
  const byStudent = createPipeline({ components: studentPipeline(teacher, student), backend });
  const pictures = [
    await byTeacher.generate(prompts, { noise, steps: teacherSteps, guidanceScale }),
    await byStudent.generate(prompts, { noise }),
  ];
  await byTeacher.dispose();
  await byStudent.dispose();
  for (const [index, { images }] of pictures.entries()) {
    expect(worstDifference(images, drawn[index]!.images)).toBeLessThan(1e-4); // of 2: rounding alone
  }
});

/** Of what is in [-1, 1]: pipelines cut off the rest. */
function worstDifference(actual: HostTensor, expected: HostTensor): number {
  const clipped = Array.from(expected.data, (value) => Math.max(-1, Math.min(1, value)));
  return Math.max(...clipped.map((value, i) => Math.abs(actual.data[i]! - value)));
}
