import type { ModelName } from "./messages.js";

/** Where the models lie beside the page, and how they are sampled: the teacher as the recipe shows it (`teacherSteps`). */
export const models: Readonly<Record<ModelName, { folder: string; steps: number; guidanceScale: number }>> = {
  student: { folder: "models/student/", steps: 1, guidanceScale: 1 },
  teacher: { folder: "models/teacher/", steps: 32, guidanceScale: 2 },
};
