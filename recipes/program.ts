import { InvalidArgumentError } from "@sdxs/tensor";

/**
 * Runs a command line program: Ctrl-C aborts its signal, known errors are printed as one message, others with their
 * stack, and the exit code says which.
 */
export async function runProgram(main: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const interruption = new AbortController();
  const interrupt = (): void => {
    interruption.abort(new Error("interrupted"));
  };
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  try {
    await main(interruption.signal);
  } catch (error) {
    if (interruption.signal.aborted) {
      console.error("\nInterrupted. What was done is saved: the same command goes on from there.");
      process.exitCode = 130; // 128 + SIGINT, as shells have it
      return;
    }
    // Errors with a code are meant to be read; anything else is a defect, whose stack helps.
    console.error(error instanceof Error && "code" in error ? `\n${error.message}` : error);
    process.exitCode = 1;
  }
}

/** A whole number of at least 0 from an option's text. */
export function wholeNumber(option: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < 0) {
    throw new InvalidArgumentError(`${option} must be a whole number of at least 0, got "${text}".`);
  }
  return value;
}
