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

/** Writes what had no effect, or not the one that was meant; the same only once, however many pictures it is true of. */
export function warner({ note }: Terminal): (message: string) => void {
  const said = new Set<string>();
  return (message) => {
    if (!said.has(message)) note(`sdxs: warning: ${message}`);
    said.add(message);
  };
}
