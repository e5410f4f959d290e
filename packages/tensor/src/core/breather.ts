/** Chosen: a page stays responsive, and pauses cost nothing that one sees. */
const EVERY_MS = 20;

/**
 * What to await between pieces of work that never wait for anything outside, as onnxruntime's WebAssembly in browsers:
 * timers, clicks, messages and signals then have their turn. It pauses only where the last pause is 20 ms ago.
 *
 * @example
 * const breathe = breather();
 * for (const step of steps) {
 *   await breathe();
 *   if (signal.aborted) break;
 *   await run(step);
 * }
 */
export function breather(): () => Promise<void> {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < EVERY_MS) return;
    await nextTurn();
    last = performance.now();
  };
}

/**
 * Lets what waits already have its turn: messages, clicks, timers. Promises alone do not, so what computes without waiting for
 * anything outside does not learn what has come meanwhile.
 *
 * @example
 * await nextTurn();
 * draw(newest); // of all messages that came while the last picture was computed
 */
// Browsers would make of a timer's 0 ms at least 4.
export async function nextTurn(): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  await new Promise((resolve) => {
    port1.onmessage = resolve;
    port2.postMessage(undefined);
  });
  port1.close();
}
