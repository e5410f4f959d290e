export { canny, type CannyOptions } from "./canny.js";
export { parseControlNetConfig, type ControlNetConfig } from "./controlnet-config.js";
export {
  combineResiduals,
  conditionalHalfOnly,
  controlNet,
  controlNetParameters,
  type ControlNetInputs,
  type ControlNetOptions,
} from "./controlnet.js";
export { controlNetDistillation, type ControlNetDistillationOptions } from "./distillation.js";
export { distanceToEdge } from "./distance-to-edge.js";
export { controlNetFromUNet, type ControlNetFromUNetOptions, type ControlNetPlan } from "./from-unet.js";
