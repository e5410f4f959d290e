/** Chosen: a page stays responsive, and the pauses cost no visible time. */
const EVERY_MS = 20;

/**
 * Makes a function to await between pieces of work that never wait for an event, as onnxruntime's WebAssembly in browsers:
 * it lets timers, clicks, messages and signals run. It pauses only if the last pause was 20 ms ago or more.
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
 * Lets the event loop handle the messages, clicks and timers that wait. Promises alone do not: code that only awaits promises
 * receives no message meanwhile.
 *
 * @example
 * await nextTurn();
 * generate(newest); // of all messages that came while the last image was computed
 */
// Browsers delay a timer of 0 ms by at least 4 ms.
export async function nextTurn(): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  await new Promise((resolve) => {
    port1.onmessage = resolve;
    port2.postMessage(undefined);
  });
  port1.close();
}
