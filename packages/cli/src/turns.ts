/** Jobs one after the other, first come, first served. */
export interface Turns {
  /** Jobs that wait for the one that runs. */
  readonly waiting: () => number;
  readonly running: () => boolean;
  /** Runs a job when its turn comes. One whose signal is aborted leaves the line at once, with the signal's reason. */
  take<R>(signal: AbortSignal, job: () => Promise<R>): Promise<R>;
}

export function turns(): Turns {
  const line = new Set<() => void>(); // in the order of their coming
  let isRunning = false;

  const myTurn = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const begin = (): void => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const leave = (): void => {
        line.delete(begin);
        reject(signal.reason as Error);
      };
      line.add(begin);
      signal.addEventListener("abort", leave);
    });

  return {
    waiting: () => line.size,
    running: () => isRunning,
    async take(signal, job) {
      signal.throwIfAborted();
      if (isRunning) await myTurn(signal);
      isRunning = true;
      try {
        return await job();
      } finally {
        const [next] = line;
        if (next === undefined) isRunning = false;
        else {
          line.delete(next); // it runs from now on, so no later job precedes it
          next();
        }
      }
    },
  };
}
