import type { ModelName, StyleName } from "./messages.js";

/** Where the models lie beside the page, and how they are sampled: the teacher as the recipe shows it (`teacherSteps`). */
export const models: Readonly<Record<ModelName, { folder: string; steps: number; guidanceScale: number }>> = {
  student: { folder: "models/student/", steps: 1, guidanceScale: 1 },
  teacher: { folder: "models/teacher/", steps: 32, guidanceScale: 2 },
};

/** What the student takes besides: a ControlNet for lines, and LoRAs of the styles that it does not know. */
export const extras: { readonly controlNet: string; readonly loras: Readonly<Record<StyleName, string>> } = {
  controlNet: "models/controlnet-edges/",
  loras: { "3d": "models/loras/lora-3d.safetensors", line: "models/loras/lora-line.safetensors" },
};
