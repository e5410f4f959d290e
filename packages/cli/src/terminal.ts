/** Where a command writes, and what stops it. */
export interface Terminal {
  /** Results, for other programs to read. */
  readonly out: (line: string) => void;
  /** What a person should know: progress, warnings, errors. */
  readonly note: (line: string) => void;
  /** Progress within a line, which the next one replaces. Default: not shown. */
  readonly progress?: (text: string) => void;
  /** Stops the command, as Ctrl-C does. */
  readonly signal: AbortSignal;
}
