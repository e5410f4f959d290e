/**
 * What a warning is about:
 * - "PROMPT_CUT": a prompt is longer than the text encoder takes; its last words had no effect
 * - "BLACK_IMAGE": a picture is all black
 */
export type WarningCode = "PROMPT_CUT" | "BLACK_IMAGE";

/** Something a user should know, though a picture comes all the same. */
export interface PipelineWarning {
  readonly code: WarningCode;
  /** A sentence for people, which names what it is about. */
  readonly message: string;
}
