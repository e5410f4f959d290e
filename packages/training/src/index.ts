export type { Metrics, TrainingTask } from "./training-task.js";
export { gradientTask, type GradientTask, type GradientTaskOptions } from "./gradient-task.js";
export {
  alternatingTask,
  type AlternatingLearner,
  type AlternatingTask,
  type AlternatingTaskOptions,
} from "./alternating-task.js";
export { type LearnerOptions, type NonFiniteGuard } from "./learner.js";
export { NonFiniteError, nonFiniteNames } from "./non-finite.js";
export { train, type TrainOptions, type TrainResult } from "./train.js";
export { smoother, type Progress } from "./progress.js";
export { memoryCheckpoints, type Checkpoint, type CheckpointStore } from "./checkpoint-store.js";
export { joinLogs, memoryLog, type MetricsLog, type MetricsRow, type MetricsSink } from "./metrics-log.js";
export { lossCurveSvg, type CurveLabel, type CurveSeries, type LossCurveOptions } from "./loss-curve.js";
export { takeRows } from "./rows.js";
