/**
 * What a warning is about:
 * - "PROMPT_CUT": a prompt is longer than the text encoder takes; its last words had no effect
 * - "BLACK_IMAGE": a picture is all black
 * - "NO_EFFECT": an option changes nothing beside the others
 * - "FAR_SIZE": the size in pixels is far from the one that the U-Net was trained on
 * - "SCHEDULER_FIELD": a field of the scheduler's configuration has no effect
 * - "STARTS_CLEAN": the scheduler begins where pictures are nearly clean, as with one step and without trailing timesteps
 * - "UNKNOWN_FIELD": a configuration has a field that is ignored, as diffusers ignores it
 * - "UNUSED_COMPONENT": a pipeline's folder has a component that is not run, as a safety checker
 * - "OTHER_WEIGHTS": a component lacks the variant of weights that was asked for; its others are read
 */
export type WarningCode =
  | "PROMPT_CUT"
  | "BLACK_IMAGE"
  | "NO_EFFECT"
  | "FAR_SIZE"
  | "SCHEDULER_FIELD"
  | "STARTS_CLEAN"
  | "UNKNOWN_FIELD"
  | "UNUSED_COMPONENT"
  | "OTHER_WEIGHTS";

/** Something a user should know, though a picture comes all the same. */
export interface PipelineWarning {
  readonly code: WarningCode;
  /** A sentence for people, which names what it is about. */
  readonly message: string;
}

/** Hears of warnings as they come. */
export type OnWarning = (warning: PipelineWarning) => void;
