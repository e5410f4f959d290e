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
  memoryOf,
  type Combine,
  type LinearUpdate,
  type SamplerPlan,
  type SamplerState,
  type SamplerStep,
} from "./samplers/plan.js";
export type { SamplerOptions, SpacedOptions, TimestepSpacing } from "./samplers/timesteps.js";
export type { SigmaRange, SigmaSpacing } from "./samplers/sigmas.js";
export type { SigmaOptions } from "./samplers/sigma-grid.js";
export type { MultistepOptions } from "./samplers/multistep.js";
export { combineHost, sample, type SampleOptions } from "./samplers/sample.js";
export { ddim, type DdimOptions } from "./samplers/ddim.js";
export { ddpm, type DdpmOptions } from "./samplers/ddpm.js";
export { deis } from "./samplers/deis.js";
export { dpmSolver, type DpmSolverOptions } from "./samplers/dpm-solver.js";
export { eulerAncestral } from "./samplers/euler-ancestral.js";
export { euler, type EulerOptions } from "./samplers/euler.js";
export { heun } from "./samplers/heun.js";
export { lcm, type ConsistencySamplerOptions, type LcmOptions } from "./samplers/lcm.js";
export { lms } from "./samplers/lms.js";
export { pndm, type PndmOptions } from "./samplers/pndm.js";
export { tcd, type TcdOptions } from "./samplers/tcd.js";
export { unipc, type UnipcOptions } from "./samplers/unipc.js";
export {
  checkSchedulerConfig,
  oneStepScheduler,
  planFromConfig,
  predictionTypeFromConfig,
  scheduleFromConfig,
  schedulerNames,
  withScheduler,
  type PlanOptions,
  type SchedulerConfig,
} from "./samplers/from-config.js";
export type { SchedulerClassName } from "./samplers/scheduler-classes.js";
