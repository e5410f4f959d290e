export {
  broadcastLevel,
  gatherNoiseLevels,
  noiseLevelAt,
  noiseSchedule,
  type BetaSchedule,
  type NoiseLevel,
  type NoiseSchedule,
  type NoiseScheduleOptions,
} from "./noise-schedule.js";
export {
  addNoise,
  predictedNoise,
  predictedSample,
  predictedVelocity,
  predictionTarget,
  velocity,
  type LinearPrediction,
  type PredictionType,
} from "./prediction.js";
export {
  boundaryScalingsAt,
  consistencySample,
  type BoundaryScalings,
  type ConsistencyOptions,
} from "./consistency.js";
export { guided } from "./guidance.js";
export {
  oneStepConversion,
  oneStepFromPlan,
  oneStepSample,
  type OneStepConversion,
  type OneStepOptions,
} from "./one-step.js";
export {
  applyStep,
  combineWith,
  type Combine,
  type SamplerPlan,
  type SamplerState,
  type SamplerStep,
} from "./samplers/plan.js";
export type { TimestepSpacing } from "./samplers/timesteps.js";
export { partialPlan } from "./samplers/partial-plan.js";
export { combineHost, sample, type SampleOptions } from "./samplers/sample.js";
export { ddim, type DdimOptions } from "./samplers/ddim.js";
export { ddpm, type DdpmOptions } from "./samplers/ddpm.js";
export { deis, type DeisOptions } from "./samplers/deis.js";
export { dpmSolver, type DpmSolverOptions } from "./samplers/dpm-solver.js";
export { euler, type EulerOptions } from "./samplers/euler.js";
export { lcm, type LcmOptions } from "./samplers/lcm.js";
export {
  planFromConfig,
  predictionTypeFromConfig,
  scheduleFromConfig,
  type SchedulerConfig,
} from "./samplers/from-config.js";
