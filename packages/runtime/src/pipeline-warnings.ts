/**
 * What a warning is about:
 * - "PROMPT_CUT": a prompt is longer than the text encoder takes; its last words had no effect
 * - "BLACK_IMAGE": a picture is all black
 * - "NO_EFFECT": an option changes nothing beside the others
 * - "FAR_SIZE": the size in pixels is far from the one that the U-Net was trained on
 * - "SCHEDULER_FIELD": a field of the scheduler's configuration has no effect
 * - "STARTS_CLEAN": the scheduler begins where pictures are nearly clean, as with one step and without trailing timesteps
 */
export type WarningCode = "PROMPT_CUT" | "BLACK_IMAGE" | "NO_EFFECT" | "FAR_SIZE" | "SCHEDULER_FIELD" | "STARTS_CLEAN";

/** Something a user should know, though a picture comes all the same. */
export interface PipelineWarning {
  readonly code: WarningCode;
  /** A sentence for people, which names what it is about. */
  readonly message: string;
}
